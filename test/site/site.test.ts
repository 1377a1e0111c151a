/**
 * The site as `npm run site` builds it, with the pages that are in docs/ now, in a real browser. All pages are looked through for
 * links that lead nowhere; some of every kind are opened, and all of them with FULL=1.
 */
import { afterAll, assert, beforeAll, it } from "@effect/vitest"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Http from "node:http"
import type * as Net from "node:net"
import * as Path from "node:path"
import type { Browser, BrowserContextOptions, Page } from "playwright-core"
import { jobs } from "../../site/map.ts"
import { html } from "../../site/paths.ts"
import { axeFindings, browserName, complaintsOf, launch } from "../examples/support/browser.ts"
import { projectRoot } from "../support/files.ts"
import { describeWith } from "../support/requirement.ts"

const types: Readonly<Record<string, string>> = {
  ".css": "text/css",
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript"
}

/** Serves the folder of the site, as any web server would. */
const serve = () =>
  Http.createServer((request, response) => {
    const path = decodeURIComponent(new URL(request.url!, "http://localhost").pathname).replace(/\/$/, "/index.html")
    const file = Path.join(html, path)
    if (!Fs.existsSync(file)) {
      response.writeHead(404).end()
      return
    }
    response.writeHead(200, { "content-type": types[Path.extname(file)] ?? "application/octet-stream" })
    Fs.createReadStream(file).pipe(response)
  })

interface Parsed {
  readonly links: ReadonlyArray<string>
  readonly anchors: ReadonlySet<string>
  readonly loads: ReadonlyArray<string>
  /** Columns of tables without a name, which a screen reader cannot tell. */
  readonly unnamed: number
}

const attribute = (text: string, name: string) =>
  Array.from(text.matchAll(new RegExp(` ${name}="([^"]*)"`, "g")), (m) => m[1]!)
const decoded = (text: string) => text.replaceAll("&amp;", "&").replaceAll("&#39;", "'").replaceAll("&quot;", "\"")

const parse = (text: string): Parsed => ({
  links: [...text.matchAll(/<a\s[^>]*>/g)].flatMap(([tag]) => attribute(tag, "href")).map(decoded),
  anchors: new Set(attribute(text, "id").map(decoded)),
  loads: [
    ...[...text.matchAll(/<link\s[^>]*>/g)].flatMap(([tag]) => attribute(tag, "href")),
    ...[...text.matchAll(/<(?:script|img|iframe|source)\s[^>]*>/g)].flatMap(([tag]) => attribute(tag, "src"))
  ],
  unnamed: [...text.matchAll(/<th(?:\s[^>]*)?>\s*<\/th>/g)].length
})

const phone = { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true } as const
const desk = { viewport: { width: 1280, height: 900 } } as const

const full = process.env["FULL"] === "1"

/** One of every kind, and those with most in them. */
const some = [
  "/index.html",
  "/nginx.html",
  "/specification.html",
  "/testing.html",
  "/api/index.html",
  "/api/http/FastCgiHttpServer.html",
  "/project/examples/cluster/main.ts.html"
]

describeWith([browserName], "the site", (executablePath) => {
  let browser: Browser
  let server: Http.Server
  let origin: string
  /** By their paths on the site. */
  let pages: ReadonlyMap<string, Parsed>
  let opened: ReadonlyArray<string>

  beforeAll(async () => {
    const { status, stderr, stdout } = ChildProcess.spawnSync(process.execPath, ["site/build.ts"], {
      cwd: projectRoot,
      encoding: "utf8"
    })
    assert.strictEqual(status, 0, stdout + stderr)
    pages = new Map(
      Fs.readdirSync(html, { recursive: true, encoding: "utf8" })
        .filter((file) => file.endsWith(".html") && file !== "404.html")
        .map((file) => [`/${file}`, parse(Fs.readFileSync(Path.join(html, file), "utf8"))])
    )
    opened = full ? [...pages.keys()] : some
    server = serve()
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
    origin = `http://127.0.0.1:${(server.address() as Net.AddressInfo).port}`
    browser = await launch(executablePath!)
  })

  afterAll(async () => {
    await browser?.close()
    server?.close()
  })

  const withPage = async <A>(options: BrowserContextOptions, use: (page: Page) => Promise<A>): Promise<A> => {
    const context = await browser.newContext({ reducedMotion: "reduce", ...options })
    try {
      return await use(await context.newPage())
    } finally {
      await context.close()
    }
  }

  const open = async (page: Page, path: string) => {
    await page.goto(`${origin}${path}`)
    // The page of VitePress takes over what the file shows.
    await page.waitForFunction("document.querySelector('#app').__vue_app__ !== undefined")
  }

  it("has a page for every page of docs, and for every module", () => {
    for (const { file } of jobs().flatMap((job) => job.pages)) {
      assert.isTrue(pages.has(`/${file.replace(/md$/, "html")}`), file)
    }
    for (const module of ["core/FastCgiServer", "http/FastCgiLogger", "client/FastCgiClient", "node/NodeFastCgi"]) {
      assert.isTrue(pages.has(`/api/${module}.html`), module)
    }
    assert.isAbove(pages.size, 80)
  })

  it("leads to nothing that is not there", () => {
    const dead: Array<string> = []
    for (const [path, { links }] of pages) {
      for (const link of links) {
        const url = new URL(link, `http://site${path}`)
        if (url.host !== "site") continue
        const target = pages.get(url.pathname.replace(/\/$/, "/index.html"))
        const anchor = decodeURIComponent(url.hash.slice(1))
        if (target === undefined || (anchor !== "" && !target.anchors.has(anchor))) dead.push(`${path}: ${link}`)
      }
    }
    assert.deepStrictEqual(dead, [])
  })

  it("has a way to every page from the front page, and back", () => {
    const reached = new Set(["/index.html"])
    for (const path of reached) {
      for (const link of pages.get(path)!.links) {
        const { host, pathname } = new URL(link, `http://site${path}`)
        if (host === "site") reached.add(pathname.replace(/\/$/, "/index.html"))
      }
    }
    assert.deepStrictEqual([...pages.keys()].filter((path) => !reached.has(path)), [])
    assert.deepStrictEqual([...pages].filter(([, { links }]) => !links.includes("/")).map(([path]) => path), [])
  })

  it("has a name for every column of a table", () => {
    assert.deepStrictEqual([...pages].filter(([, { unnamed }]) => unnamed > 0).map(([path]) => path), [])
  })

  it("loads nothing from elsewhere", () => {
    const loads = [...pages.values()].flatMap((page) => page.loads)
    assert.isAbove(loads.length, pages.size)
    assert.deepStrictEqual(loads.filter((url) => !/^(\/|data:)/.test(url)), [])
  })

  for (const colorScheme of ["light", "dark"] as const) {
    // Each page in one of the two, or in both with FULL=1: in parts, because all of them take minutes.
    for (const part of full ? [1, 2, 3, 4] : [1]) {
      it(
        `has nothing that axe-core finds, ${colorScheme}${full ? `, part ${part} of 4` : ""}`,
        () =>
          withPage({ ...desk, colorScheme }, async (page) => {
            const findings: Array<string> = []
            const looked = opened.filter((_, at) =>
              full ? at % 4 === part - 1 : (at % 2 === 0) === (colorScheme === "light")
            )
            for (const path of looked) {
              await open(page, path)
              findings.push(...(await axeFindings(page)).map((finding) => `${path}: ${finding}`))
            }
            assert.deepStrictEqual(findings, [])
          }),
        600_000
      )
    }
  }

  it(
    "fits a phone, logs no error and asks nobody else",
    () =>
      withPage({ ...phone, colorScheme: "dark" }, async (page) => {
        const complaints = complaintsOf(page)
        const elsewhere: Array<string> = []
        page.on("request", (request) => {
          if (!request.url().startsWith(origin) && !request.url().startsWith("data:")) elsewhere.push(request.url())
        })
        const wide: Array<string> = []
        for (const path of opened) {
          await open(page, path)
          const width = await page.evaluate(() => document.documentElement.scrollWidth)
          if (width > 390) wide.push(`${path}: ${width}`)
        }
        assert.deepStrictEqual({ complaints, elsewhere, wide }, { complaints: [], elsewhere: [], wide: [] })
        assert.deepStrictEqual(await axeFindings(page), [])
      }),
    600_000
  )

  it("is searched and read with the keyboard alone", () =>
    withPage(desk, async (page) => {
      await open(page, "/index.html")
      await page.keyboard.press("Tab")
      assert.strictEqual(await page.evaluate(() => document.activeElement?.textContent), "Skip to content")
      await page.keyboard.press("Control+k")
      await page.getByRole("searchbox").waitFor()
      await page.keyboard.type("maxParamsSize")
      await page.locator("#localsearch-list li a").first().waitFor()
      await page.keyboard.press("Enter")
      await page.waitForURL(/\.html#/)
      await page.locator("main", { hasText: "maxParamsSize" }).waitFor()
      // The list of pages is one of links, in the order of Tab.
      await open(page, "/index.html")
      await page.locator(".VPSidebar a", { hasText: "lighttpd" }).focus()
      await page.keyboard.press("Tab")
      await page.keyboard.press("Enter")
      await page.waitForURL(/\/apache\.html$/)
    }))

  it("opens its menus on a phone with the keyboard alone", () =>
    withPage(phone, async (page) => {
      await open(page, "/nginx.html")
      await page.getByRole("button", { name: "Menu" }).focus()
      await page.keyboard.press("Enter")
      await page.locator(".VPSidebar.open a", { hasText: "HAProxy" }).focus()
      await page.keyboard.press("Enter")
      await page.waitForURL(/\/haproxy\.html$/)
    }))

  it("is dark without JavaScript, where the system is, in the same colours", async () => {
    const path = "/nginx.html"
    const places = [
      ["body", "header", ".VPSidebar", ".VPSidebar a", ".VPSidebar h2", "h1", ".vp-doc p", ".vp-doc a", ".vp-doc th"],
      [
        ".vp-doc td",
        ".vp-doc p code",
        ".vp-doc pre",
        ".hljs-comment",
        ".hljs-section",
        ".hljs-attribute",
        ".pager-link"
      ]
    ].flat()
    const colours = (options: BrowserContextOptions) =>
      withPage({ ...desk, colorScheme: "dark", ...options }, async (page) => {
        await page.goto(`${origin}${path}`)
        const found: Record<string, string> = {}
        for (const place of places) {
          found[place] = await page.locator(place).first().evaluate((element) => {
            const { backgroundColor, color } = getComputedStyle(element)
            return `${color} on ${backgroundColor}`
          })
        }
        return found
      })
    // axe-core looks at the colours of the other one; it does not run in a page without JavaScript.
    const without = await colours({ javaScriptEnabled: false })
    assert.deepStrictEqual(without, await colours({}))
    assert.isBelow(Number(/on rgb\((\d+)/.exec(without["body"]!)?.[1]), 64)
  })

  it("is read without JavaScript, on a phone too", () =>
    withPage({ ...phone, javaScriptEnabled: false }, async (page) => {
      await page.goto(`${origin}/nginx.html`)
      await page.getByRole("heading", { name: "Behind nginx" }).waitFor()
      for (const name of ["Menu", "Search", "mobile navigation"]) {
        assert.isFalse(await page.getByRole("button", { name }).first().isVisible(), name)
      }
      assert.isAtMost(await page.locator("html").evaluate((element) => element.scrollWidth), 390)
      await page.locator(".VPSidebar").getByRole("link", { name: "Caddy" }).click()
      await page.waitForURL(/\/caddy\.html$/)
      await page.getByRole("link", { name: "effect-fastcgi", exact: true }).first().click()
      await page.locator("main").getByRole("heading", { name: "Choose a web server" }).waitFor()
    }))
})
