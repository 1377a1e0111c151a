/**
 * `npm start` as a person uses it: the built package, a real browser, Ctrl-C at the end.
 */
import { afterAll, assert, beforeAll, it } from "@effect/vitest"
import * as ChildProcess from "node:child_process"
import { createHash } from "node:crypto"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import type { Browser, Page } from "playwright-core"
import { projectRoot } from "../support/files.ts"
import { describeWith } from "../support/requirement.ts"
import * as Board from "./support/board.ts"
import { browserName, complaintsOf, launch } from "./support/browser.ts"

const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex")

describeWith([browserName], "npm start in a browser", (executablePath) => {
  const scratch = Fs.mkdtempSync(Path.join(Os.tmpdir(), "effect-fastcgi-test-"))
  let app: Board.BoardProcess
  let url: string
  let socket: string
  let browser: Browser
  let page: Page
  let complaints: Array<string>

  beforeAll(async () => {
    // What `npm start` does first.
    const build = ChildProcess.spawnSync("npm", ["run", "--silent", "build"], { cwd: projectRoot, encoding: "utf8" })
    assert.strictEqual(build.status, 0, build.stdout + build.stderr)
    app = Board.spawn(["--port", "0"])
    const at = await Board.ready(app)
    url = at.url
    socket = at.socket!
    browser = await launch(executablePath!)
    page = await browser.newPage()
    complaints = complaintsOf(page)
  })

  afterAll(async () => {
    await browser?.close()
    app?.child.kill("SIGKILL")
    Fs.rmSync(scratch, { recursive: true, force: true })
  })

  it("shows the board and how it was reached", async () => {
    await page.goto(url)
    assert.strictEqual(await page.title(), "Notes board")
    await page.locator("#status.live").waitFor()
    const about = page.locator("section", { has: page.locator("#about") })
    assert.include(await about.innerText(), "FastCGI")
    await about.locator("summary").click()
    const variables = await about.locator("table").innerText()
    assert.match(variables, /REQUEST_METHOD\s+GET/)
    assert.match(variables, /REQUEST_URI\s+\//)
    assert.match(variables, /REMOTE_ADDR\s+127\.0\.0\.1/)
    assert.deepStrictEqual(complaints, [])
  })

  it("ticks", async () => {
    const before = await page.locator("#status").innerText()
    await page.waitForFunction((before) => document.getElementById("status")!.innerText !== before, before)
    assert.match(await page.locator("#status").innerText(), /^live, 1 page open, /)
  })

  it("posts a note without a reload, and shows another client's at once", async () => {
    await page.evaluate(() => document.body.setAttribute("data-same", ""))
    await page.getByLabel("Your name").fill("Ada")
    await page.getByLabel("Note", { exact: true }).fill("<b>not bold</b>")
    await page.getByRole("button", { name: "Post" }).click()
    const note = page.locator("#notes li", { hasText: "<b>not bold</b>" })
    await note.waitFor()
    assert.include(await note.innerText(), "Ada")
    assert.strictEqual(await page.getByLabel("Note", { exact: true }).inputValue(), "")

    const response = await fetch(url, {
      method: "POST",
      body: new URLSearchParams({ author: "Grace", text: "from elsewhere" }),
      redirect: "manual"
    })
    assert.strictEqual(response.status, 303)
    await page.locator("#notes li", { hasText: "from elsewhere" }).waitFor()

    await note.getByRole("button").click()
    await note.waitFor({ state: "detached" })
    assert.strictEqual(await page.locator("body[data-same]").count(), 1)
    assert.deepStrictEqual(complaints, [])
  })

  it("says who is writing on another page, by WebSockets through the gateway", async () => {
    const other = await browser.newPage()
    const otherComplaints = complaintsOf(other)
    const connecting = other.waitForEvent("websocket")
    await other.goto(url)
    assert.match((await connecting).url(), /^ws:\/\/127\.0\.0\.1:\d+\/writing$/)
    const writing = page.locator("#writing")
    assert.isTrue(await writing.isHidden())
    await other.getByLabel("Your name").fill("Grace")
    // What is written before the connection is open is told to nobody.
    const shown = writing.waitFor({ state: "visible" }).then(() => true)
    const note = other.getByLabel("Note", { exact: true })
    for (let letters = 1;; letters++) {
      await note.fill("x".repeat(letters))
      if (await Promise.race([shown, other.evaluate("new Promise(requestAnimationFrame)").then(() => false)])) break
    }
    assert.strictEqual(await writing.innerText(), "Grace is writing …")
    await other.close()
    await writing.waitFor({ state: "hidden" })
    assert.deepStrictEqual([...complaints, ...otherComplaints], [])
  })

  it("works without JavaScript", async () => {
    const context = await browser.newContext({ javaScriptEnabled: false })
    const plain = await context.newPage()
    await plain.goto(url)
    await plain.getByLabel("Note", { exact: true }).fill("by a plain form")
    await plain.getByRole("button", { name: "Post" }).click()
    await plain.waitForURL(/#note-\d+$/)
    await plain.locator("#notes li", { hasText: "by a plain form" }).waitFor()
    await plain.getByLabel("Files of any size").setInputFiles({
      name: "plain.txt",
      mimeType: "text/plain",
      buffer: Buffer.from("plain")
    })
    await plain.getByRole("button", { name: "Upload" }).click()
    await plain.waitForURL(/#files$/)
    await plain.locator("#files li", { hasText: "plain.txt" }).waitFor()
    await context.close()
    await page.locator("#files li", { hasText: "plain.txt" }).waitFor()
  })

  it("uploads 50 MB with a progress bar that moves, and downloads them again", async () => {
    const bytes = new Uint8Array(50_000_000)
    for (let i = 0; i < bytes.length; i += 65536) crypto.getRandomValues(bytes.subarray(i, i + 65536))
    const file = Path.join(scratch, "fünfzig.bin")
    Fs.writeFileSync(file, bytes)

    // A network of 40 MB/s: without it a local upload may be over before the first progress event.
    const network = await page.context().newCDPSession(page)
    const throughput = { offline: false, latency: 0, downloadThroughput: -1, uploadThroughput: 40e6 }
    await network.send("Network.emulateNetworkConditions", throughput)
    await page.evaluate(() => {
      const bar = document.querySelector("progress")!
      const seen: Array<number> = []
      Object.assign(globalThis, { seen })
      new MutationObserver(() => seen.push(bar.value)).observe(bar, { attributes: true })
    })
    await page.getByLabel("Files of any size").setInputFiles(file)
    await page.getByRole("button", { name: "Upload" }).click()
    await page.locator("progress").waitFor()
    const item = page.locator("#files li", { hasText: "fünfzig.bin" })
    await page.locator("#files li", { hasText: "arriving" }).waitFor()
    await item.locator("a").waitFor()
    await page.locator("progress").waitFor({ state: "hidden" })
    await network.send("Network.emulateNetworkConditions", { ...throughput, uploadThroughput: -1 })
    const seen = await page.evaluate<Array<number>>("seen")
    const between = new Set(seen.filter((value) => value > 0 && value < bytes.length))
    assert.isAtLeast(between.size, 3, `the bar was at ${seen}`)
    assert.include(await item.innerText(), `sha256 ${sha256(bytes)}`)
    assert.include(await item.innerText(), "50.0 MB")

    const [download] = await Promise.all([page.waitForEvent("download"), item.locator("a").click()])
    assert.strictEqual(download.suggestedFilename(), "fünfzig.bin")
    const target = Path.join(scratch, "again.bin")
    await download.saveAs(target)
    assert.strictEqual(sha256(Fs.readFileSync(target)), sha256(bytes))
    assert.deepStrictEqual(complaints, [])
  })

  it("shows an error page with an id that the log knows", async () => {
    const other = await browser.newPage()
    await other.goto(url)
    await other.getByRole("link", { name: "A page that fails" }).click()
    await other.getByRole("heading", { name: "Something went wrong" }).waitFor()
    const id = await other.locator("code").innerText()
    assert.match(id, /^[0-9a-f-]{36}$/)
    assert.include(app.errors(), id)
    assert.include(app.errors(), "This route fails on purpose")
    await other.getByRole("link", { name: "Back to the board" }).click()
    await other.getByRole("heading", { name: "Notes board" }).waitFor()
    await other.close()
  })

  it("ends at Ctrl-C with 0 and leaves nothing behind, though pages are open", async () => {
    assert.strictEqual(Fs.statSync(socket).isSocket(), true)
    app.child.kill("SIGINT")
    assert.deepStrictEqual(await app.exited, { code: 0, signal: null })
    assert.strictEqual(Fs.existsSync(socket), false)
    assert.strictEqual(Fs.existsSync(Path.dirname(socket)), false)
    await page.locator("#status.lost").waitFor()
  })
})
