/**
 * The page of the board as a picky reader has it: for the keyboard, for tools that read pages aloud, on a phone, in the dark. On
 * the sources.
 */
import { afterAll, afterEach, assert, beforeAll, beforeEach, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { Browser, BrowserContext, Page } from "playwright-core"
import { describeWith } from "../support/requirement.ts"
import { freePort } from "../support/webServers.ts"
import * as Board from "./support/board.ts"
import { axeFindings, browserName, complaintsOf, launch } from "./support/browser.ts"

const phone = { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true } as const

const long = "A sentence of a long note, one of many. ".repeat(30).trim()

describeWith([browserName], "the page of the board", (executablePath) => {
  let app: Board.BoardProcess
  let url: string
  let browser: Browser
  let context: BrowserContext
  let page: Page
  let complaints: Array<string>

  const empty = async () => {
    for (const kind of ["notes", "files"]) {
      const all = await (await fetch(new URL(`api/${kind}`, url))).json() as ReadonlyArray<{ readonly id: number }>
      for (const { id } of all) {
        await fetch(new URL(`${kind}/${id}/delete`, url), { method: "POST", redirect: "manual" })
      }
    }
  }

  /** A new page of an empty board. */
  const open = async (options?: Parameters<Browser["newContext"]>[0]) => {
    await context?.close()
    context = await browser.newContext(options)
    page = await context.newPage()
    complaints = complaintsOf(page)
    await empty()
    await page.goto(url)
    if (options?.javaScriptEnabled !== false) await page.locator("#status.live").waitFor()
  }

  const focused = () =>
    page.evaluate(() => {
      const element = document.activeElement
      return [element?.getAttribute("aria-label"), element?.id, element?.textContent].find((name) => name)
    })

  /** Presses Tab until the element with this label or text has the focus. */
  const tabTo = async (what: string) => {
    const seen: Array<string> = []
    for (let i = 0; i < 60; i++) {
      await page.keyboard.press("Tab")
      const at = await page.evaluate(() => {
        const element = document.activeElement
        const label = element instanceof HTMLInputElement || element instanceof HTMLTextAreaElement
          ? element.labels?.[0]?.textContent
          : undefined
        return (element?.getAttribute("aria-label") ?? label ?? element?.textContent ?? "").trim()
      })
      if (at === what) return
      seen.push(at)
    }
    throw new Error(`Tab did not come to "${what}", but to ${seen.join(", ")}`)
  }

  const add = async (author: string, text: string) => {
    await fetch(url, { method: "POST", body: new URLSearchParams({ author, text }), redirect: "manual" })
    await page.locator("#notes li", { hasText: author }).waitFor()
  }

  beforeAll(async () => {
    app = Board.spawnOnSources(["--port", "0"])
    url = (await Board.ready(app)).url
    browser = await launch(executablePath!)
  })

  beforeEach(() => open())

  // The browser logs every status of 400 and above, and every connection that it loses: some tests are about those.
  afterEach(() => assert.deepStrictEqual(complaints.filter((text) => !text.startsWith("Failed to load resource")), []))

  afterAll(async () => {
    await browser?.close()
    app?.child.kill("SIGTERM")
    await app?.exited
  })

  it("shows the records of its own request, and of its response", async () => {
    const picture = page.locator("#chain")
    await page.locator("#chain:not([data-rest])").waitFor()
    const text = await picture.innerText()
    for (const part of ["BEGIN_REQUEST", "PARAMS", "STDIN", "GET /", "STDOUT", "END_REQUEST", "REQUEST_COMPLETE"]) {
      assert.include(text, part)
    }
    // Version 1, BEGIN_REQUEST, 8 bytes of content: role 1, keep the connection.
    assert.match(await picture.locator("pre").innerText(), /^01 01 .. .. 00 08 00 ..\n00 01 01/)
  })

  it("shows the records of its response without JavaScript, by a link", async () => {
    await open({ javaScriptEnabled: false })
    assert.include(await page.locator("#chain").innerText(), "not sent yet")
    await page.getByRole("link", { name: "Show its records" }).click()
    await page.getByRole("heading", { name: "The request GET /" }).waitFor()
    assert.include(await page.locator("#chain").innerText(), "END_REQUEST")
  })

  for (const colorScheme of ["light", "dark"] as const) {
    for (const [name, device] of [["desk", { viewport: { width: 1280, height: 900 } }], ["phone", phone]] as const) {
      // The four are tried with FULL=1.
      if (process.env["FULL"] !== "1" && (colorScheme === "light") === (name === "desk")) continue
      it(`has nothing that axe-core finds, ${colorScheme}, on a ${name}`, async () => {
        await open({ ...device, colorScheme, reducedMotion: "reduce" })
        await add("Ada", long)
        await add("Grace", "short")
        await page.getByLabel("Files of any size").setInputFiles({
          name: "a.txt",
          mimeType: "text/plain",
          buffer: Buffer.from("a")
        })
        await page.getByRole("button", { name: "Upload" }).click()
        await page.locator("#files li a").waitFor()
        await page.getByRole("button", { name: "Delete the note by Grace" }).click()
        await page.getByText("The note by Grace is deleted.").waitFor()
        await page.locator("summary").first().click()
        await page.locator("summary").last().click()
        await page.locator("#chain:not([data-rest])").waitFor()
        assert.deepStrictEqual(await axeFindings(page), [])
        assert.isAtMost(await page.evaluate(() => document.documentElement.scrollWidth), device.viewport.width)

        // The pages that say one thing.
        const deleted = await page.locator("#notes .gone").getAttribute("data-id")
        const key = await fetch(url).then((response) => response.text())
        for (
          const path of ["broken", "nowhere", `?deleted=note-${deleted}`, /records\/[0-9a-f-]{36}/.exec(key)![0]]
        ) {
          await page.goto(new URL(path, url).href)
          assert.deepStrictEqual(await axeFindings(page), [], path)
          assert.isAtMost(await page.evaluate(() => document.documentElement.scrollWidth), device.viewport.width)
        }
      })
    }
  }

  it("has borders of 3:1 and placeholders of 4.5:1", async () => {
    for (const colorScheme of ["light", "dark"] as const) {
      await open({ colorScheme, reducedMotion: "reduce" })
      await add("Ada", "note")
      const faint = await page.evaluate(() => {
        const parse = (color: string) => (color.match(/[\d.]+/g) ?? []).map(Number)
        const luminance = (color: string) => {
          const [r, g, b] = parse(color).map((value) => {
            const share = value / 255
            return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4
          })
          return 0.2126 * r! + 0.7152 * g! + 0.0722 * b!
        }
        const contrast = (a: string, b: string) => {
          const [light, dark] = [luminance(a), luminance(b)].sort((a, b) => b - a)
          return (light! + 0.05) / (dark! + 0.05)
        }
        const transparent = (color: string) => parse(color)[3] === 0
        const backgroundOf = (element: Element | null): string => {
          if (element === null) return "rgb(255, 255, 255)"
          const { backgroundColor } = getComputedStyle(element)
          return transparent(backgroundColor) ? backgroundOf(element.parentElement) : backgroundColor
        }
        const found: Array<string> = []
        let looked = 0
        for (const element of document.querySelectorAll("body *")) {
          const { borderTopColor, borderTopWidth } = getComputedStyle(element)
          if (borderTopWidth !== "0px" && !transparent(borderTopColor) && element.tagName !== "PROGRESS") {
            looked++
            const inside = contrast(borderTopColor, backgroundOf(element))
            const outside = contrast(borderTopColor, backgroundOf(element.parentElement))
            if (Math.min(inside, outside) < 3) {
              found.push(`${element.tagName}.${element.className} ${inside} ${outside}`)
            }
          }
          if (element instanceof HTMLInputElement && element.placeholder !== "") {
            looked++
            const { color, opacity } = getComputedStyle(element, "::placeholder")
            if (opacity !== "1" || contrast(color, backgroundOf(element)) < 4.5) found.push(`placeholder ${color}`)
          }
        }
        return { found, looked }
      })
      assert.isAbove(faint.looked, 8)
      assert.deepStrictEqual(faint.found, [], colorScheme)
    }
  })

  it("has targets of 44 px for a finger, and nobody alone in the last row of a card", async () => {
    await open(phone)
    await add("Ada", long)
    await page.getByLabel("Files of any size").setInputFiles({
      name: "a.txt",
      mimeType: "text/plain",
      buffer: Buffer.from("a")
    })
    await page.getByRole("button", { name: "Upload" }).click()
    await page.locator("#files li a").waitFor()
    const targets = () =>
      page.evaluate(() =>
        Array.from(document.querySelectorAll("a, button, input, textarea, summary")).flatMap((element) => {
          const { height, width } = element.getBoundingClientRect()
          return width > 0 && Math.min(width, height) < 44
            ? [`${element.outerHTML.slice(0, 80)}: ${width} x ${height}`]
            : []
        })
      )
    assert.deepStrictEqual(await targets(), [])
    const rooms = await page.evaluate(() =>
      Array.from(document.querySelectorAll("nav"), (nav) => {
        const words = Array.from(nav.querySelectorAll("a"), (link) => {
          const range = document.createRange()
          range.selectNodeContents(link)
          return range.getBoundingClientRect()
        })
        return words.slice(1).flatMap((word, i) =>
          word.top === words[i]!.top ? [Math.round(word.left - words[i]!.right)] : []
        )
      }).flat()
    )
    assert.isAtLeast(rooms.length, 3)
    assert.deepStrictEqual(new Set(rooms).size, 1, `room between links: ${rooms}`)
    await page.getByRole("button", { name: "Delete the note by Ada" }).click()
    await page.getByRole("button", { name: "Undo" }).waitFor()
    assert.deepStrictEqual(await targets(), [])

    const inLastRow = () =>
      page.evaluate(() => {
        const tops = Array.from(document.querySelectorAll(".facts > div"), (item) => item.getBoundingClientRect().top)
        return tops.filter((top) => top === tops.at(-1)).length
      })
    for (const width of [320, 390, 700, 800, 1280]) {
      await page.setViewportSize({ width, height: 800 })
      assert.isAtLeast(await inLastRow(), 2, `${width} px`)
      assert.isAtMost(await page.evaluate(() => document.documentElement.scrollWidth), width)
    }
  })

  it("is used with the keyboard alone", async () => {
    await tabTo("Your name")
    await page.keyboard.type("Ada")
    await tabTo("Note")
    await page.keyboard.type("first")
    await page.keyboard.press("Control+Enter")
    await page.locator("#notes li", { hasText: "first" }).waitFor()
    // On to the next one.
    await page.waitForFunction(() => (document.activeElement as HTMLTextAreaElement).value === "")
    await page.keyboard.type(long)
    await tabTo("Post")
    await page.keyboard.press("Enter")
    await page.locator("#notes li", { hasText: "Show all of it" }).waitFor()

    await page.getByLabel("Note", { exact: true }).focus()
    await tabTo("Show all of itShow less")
    await page.keyboard.press("Enter")
    assert.include(await page.locator("#notes li").first().innerText(), long)
    assert.strictEqual(await page.locator(".beginning").isVisible(), false)

    await tabTo("Delete the note by Ada")
    await page.keyboard.press("Enter")
    await page.getByText("The note by Ada is deleted.").waitFor()
    assert.strictEqual(await page.locator(".text", { hasText: long }).count(), 0)
    assert.strictEqual(await page.locator("#notes li").count(), 2)
    // The focus is where the undoing is.
    assert.strictEqual(await focused(), "Undo")
    await page.keyboard.press("Enter")
    await page.locator("#notes li", { hasText: "Show all of it" }).waitFor()
    assert.strictEqual(await focused(), "Delete the note by Ada")
    assert.include(await page.locator("#notes li").first().innerText(), "A sentence")

    await tabTo("Files of any size")
    const [chooser] = await Promise.all([page.waitForEvent("filechooser"), page.keyboard.press("Space")])
    await chooser.setFiles({ name: "keys.txt", mimeType: "text/plain", buffer: Buffer.from("keys") })
    await tabTo("Upload")
    await page.keyboard.press("Enter")
    await page.locator("#files li a", { hasText: "keys.txt" }).waitFor()
    await tabTo("Delete the file keys.txt")
    await page.keyboard.press("Enter")
    await page.getByText("The file keys.txt is deleted.").waitFor()
    assert.strictEqual(await focused(), "Undo")
  })

  it("keeps the focus near when somebody else deletes what has it", async () => {
    await add("Ada", "one")
    await add("Grace", "two")
    await page.getByRole("button", { name: "Delete the note by Grace" }).focus()
    const elsewhere = async (author: string) => {
      const notes = await (await fetch(new URL("api/notes", url))).json() as ReadonlyArray<
        { readonly id: number; readonly author: string }
      >
      const { id } = notes.find((note) => note.author === author)!
      await fetch(new URL(`notes/${id}/delete`, url), { method: "POST", redirect: "manual" })
      await page.locator(`#note-${id}`).waitFor({ state: "detached" })
    }
    await elsewhere("Grace")
    assert.strictEqual(await focused(), "Delete the note by Ada")
    await elsewhere("Ada")
    assert.strictEqual(await focused(), "notes-title")
  })

  it("says that a note is gone when somebody else was faster", async () => {
    await add("Ada", "one")
    await page.route("**/notes/*/delete", (route) => route.fulfill({ status: 404, body: `<p role="alert">Gone.</p>` }))
    await page.getByRole("button", { name: "Delete the note by Ada" }).click()
    await page.locator("#notes .alert", { hasText: "Gone." }).waitFor()
  })

  it("takes an alert away when its cause has gone", async () => {
    await page.getByLabel("Note", { exact: true }).fill("   ")
    await page.getByRole("button", { name: "Post" }).click()
    const alert = page.locator("#write [role=alert]")
    await alert.filter({ hasText: "The note has no text" }).waitFor()
    assert.deepStrictEqual(await axeFindings(page), [])
    await page.getByLabel("Note", { exact: true }).fill("text")
    assert.strictEqual(await alert.isVisible(), false)

    // Where the server has not answered, it goes when the page is live.
    await page.route(url, (route) => route.request().method() === "POST" ? route.abort() : route.continue())
    // It may be there for a moment only, until the next tick.
    await page.evaluate(() => {
      const alert = document.querySelector("#write [role=alert]")!
      const { dataset } = document.body
      new MutationObserver(() => {
        dataset["alerts"] = `${dataset["alerts"] ?? ""}${alert.textContent}|`
      }).observe(alert, { childList: true })
    })
    await page.getByRole("button", { name: "Post" }).click()
    await page.waitForFunction(() => /did not answer.*\|\|$/.test(document.body.dataset["alerts"] ?? ""))
    assert.strictEqual(await alert.isVisible(), false)
    assert.strictEqual(await page.getByLabel("Note", { exact: true }).inputValue(), "text")
  })

  it("takes a cancelled upload for no error", async () => {
    const said = app.errors().length
    const network = await context.newCDPSession(page)
    const slow = { offline: false, latency: 0, downloadThroughput: -1, uploadThroughput: 200_000 }
    await network.send("Network.emulateNetworkConditions", slow)
    await page.getByLabel("Files of any size").setInputFiles({
      name: "long.bin",
      mimeType: "application/octet-stream",
      buffer: Buffer.alloc(3_000_000)
    })
    await page.getByRole("button", { name: "Upload" }).press("Enter")
    const item = page.locator("#files li", { hasText: "long.bin" })
    await item.waitFor()
    assert.notInclude(await item.innerText(), "sha256")
    assert.deepStrictEqual(await axeFindings(page), [])
    assert.strictEqual(await focused(), "cancel")
    await page.keyboard.press("Enter")
    await page.getByText("Cancelled. The server keeps no part of the file.").waitFor()
    assert.strictEqual(await page.locator("#send [role=alert]").isVisible(), false)
    assert.strictEqual(await focused(), "Upload")
    await item.waitFor({ state: "detached" })
    assert.strictEqual(app.errors().slice(said), "")
    // The next try says nothing of it.
    await network.send("Network.emulateNetworkConditions", { ...slow, uploadThroughput: -1 })
    await page.keyboard.press("Enter")
    await item.locator("a").waitFor()
    assert.strictEqual(await page.getByText("Cancelled.").count(), 0)
  })

  it("shows what a server has that was started anew, and nothing of the one before", async () => {
    const port = String(await Effect.runPromise(freePort))
    const start = async () => {
      const started = Board.spawnOnSources(["--port", port])
      return { started, at: (await Board.ready(started)).url }
    }
    const post = (at: string, text: string) =>
      fetch(at, { method: "POST", body: new URLSearchParams({ text }), redirect: "manual" })
    const first = await start()
    await page.goto(first.at)
    await page.locator("#status.live").waitFor()
    await post(first.at, "of the first one")
    await page.locator("#notes li", { hasText: "of the first one" }).waitFor()
    first.started.child.kill("SIGTERM")
    await first.started.exited
    await page.locator("#status.lost").waitFor()
    // It comes back when there is something already.
    await context.setOffline(true)
    const second = await start()
    try {
      await post(second.at, "of the second one")
      await context.setOffline(false)
      await page.locator("#notes li", { hasText: "of the second one" }).waitFor()
      assert.strictEqual(await page.locator("#notes li").count(), 1)
    } finally {
      second.started.child.kill("SIGTERM")
      await second.started.exited
    }
    // The first server may have gone while the page was opening its WebSocket. The browser logs that.
    complaints = complaints.filter((text) => !text.startsWith("WebSocket connection to"))
  })

  it("undoes without JavaScript", async () => {
    await open({ javaScriptEnabled: false })
    await page.getByLabel("Your name").fill("Ada")
    await page.getByLabel("Note", { exact: true }).fill("kept")
    await page.getByRole("button", { name: "Post" }).press("Enter")
    await page.locator("#notes li", { hasText: "kept" }).waitFor()
    await page.getByRole("button", { name: "Delete the note by Ada" }).press("Enter")
    await page.getByText("The note by Ada is deleted.").waitFor()
    assert.strictEqual(await page.locator("#notes li").count(), 0)
    // It has the focus.
    await page.keyboard.press("Enter")
    await page.waitForURL(/#note-\d+$/)
    await page.locator("#notes li", { hasText: "kept" }).waitFor()
  })
})
