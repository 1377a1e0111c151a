/**
 * A headless Chromium, for pages as people and tools see them.
 */
import axe from "axe-core"
import { type Browser, chromium, type Page } from "playwright-core"
import { onPath } from "../../support/requirement.ts"

/** What it is called here: $CHROMIUM, or the first of its names that is installed. */
export const browserName = [process.env["CHROMIUM"], "chromium", "chromium-browser", "google-chrome"]
  .find((name) => name !== undefined && onPath(name) !== undefined) ?? "chromium"

export const launch = (executablePath: string): Promise<Browser> =>
  chromium.launch({
    executablePath,
    args: [
      "--headless",
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync"
    ]
  })

/** What the page throws, and writes to the console as errors, from now on. */
export const complaintsOf = (page: Page): Array<string> => {
  const complaints: Array<string> = []
  page.on("pageerror", (error) => complaints.push(error.message))
  page.on("console", (message) => {
    if (message.type() === "error") complaints.push(message.text())
  })
  return complaints
}

/** What axe-core finds on the page as it is, a line each. */
export const axeFindings = async (page: Page): Promise<ReadonlyArray<string>> => {
  await page.evaluate(axe.source)
  return page.evaluate<ReadonlyArray<string>>(`axe.run(document).then(({ violations }) =>
    violations.flatMap(({ id, help, nodes }) =>
      nodes.map(({ html, failureSummary }) => id + ": " + help + ": " + html + ": " + failureSummary)))`)
}
