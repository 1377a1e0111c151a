/**
 * DokuWiki as Debian ships it, through the PHP front in a browser: at the root and below a prefix.
 */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { assert, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import { createHash } from "node:crypto"
import * as Fs from "node:fs"
import { createServer } from "node:http"
import { join } from "node:path"
import type { Page } from "playwright-core"
import * as FastCgiGateway from "../../src/client/FastCgiGateway.ts"
import * as PhpFpm from "../client/phpFpm.ts"
import { browserName, complaintsOf, launch } from "../examples/support/browser.ts"
import { describeWith } from "../support/requirement.ts"

const installed = "/usr/share/dokuwiki"
const configuration = "/etc/dokuwiki"

// Some picture, of 16 by 16 pixels.
const picture = "lib/images/media_link_nolnk.png"

/** A wiki of its own: what Debian has installed, with configuration and data in this folder. Its scripts know their URL. */
const makeWiki = (folder: string) => {
  const conf = join(folder, "conf")
  const data = join(folder, "data")
  Fs.mkdirSync(conf, { recursive: true })
  for (const name of Fs.readdirSync(configuration)) {
    if (/^[a-z.]+\.(?:conf|php|json|css)$/.test(name) && Fs.lstatSync(join(configuration, name)).isFile()) {
      Fs.copyFileSync(join(configuration, name), join(conf, name))
    }
  }
  for (
    const name of [
      "attic",
      "cache",
      "index",
      "locks",
      "log",
      "media",
      "media_attic",
      "media_meta",
      "meta",
      "pages",
      "tmp"
    ]
  ) {
    Fs.mkdirSync(join(data, name), { recursive: true })
  }
  const password = createHash("md5").update("secret").digest("hex")
  Fs.writeFileSync(join(conf, "users.auth.php"), `ada:${password}:Ada Lovelace:ada@site.test:admin,user\n`)
  Fs.writeFileSync(join(conf, "acl.auth.php"), "*\t@ALL\t1\n*\t@user\t8\n")
  Fs.writeFileSync(
    join(conf, "local.php"),
    `<?php $conf['title'] = 'Test'; $conf['useacl'] = 1; $conf['superuser'] = '@admin'; $conf['savedir'] = '${data}';
$conf['xsendfile'] = 2;`
  )
  return { conf, data }
}

class Wiki
  extends Context.Service<Wiki, { readonly origin: string; readonly data: ReadonlyArray<string> }>()("test/Wiki")
{}

// A package without a command.
const packages = Fs.existsSync(installed) ? [] : ["dokuwiki"]

describeWith([browserName, "php-fpm8.2", ...packages], "DokuWiki", (executablePath, command) => {
  const started = Effect.gen(function*() {
    const php = yield* PhpFpm.start(command!, {
      systemIni: true,
      pool: (folder) => {
        Fs.writeFileSync(join(folder, "prepend.php"), "<?php define('DOKU_CONF', $_SERVER['WIKI_CONF'] . '/');")
        Fs.mkdirSync(join(folder, "sessions"))
        return [
          `php_admin_value[auto_prepend_file] = ${join(folder, "prepend.php")}`,
          `php_admin_value[session.save_path] = ${join(folder, "sessions")}`
        ]
      }
    })
    const wikis = ["one", "two"].map((name) => makeWiki(join(php.folder, name)))
    const sites = wikis.map(({ conf, data }) => ({
      connect: php.connect,
      root: installed,
      // Plugins, templates and configuration are elsewhere.
      followSymlinks: true,
      index: ["doku.php"],
      deny: ["/bin", "/inc", "/vendor"],
      internal: { "/data": data },
      params: { WIKI_CONF: conf }
    }))
    const routes = Layer.mergeAll(
      FastCgiGateway.layerPhp(sites[0]),
      FastCgiGateway.layerPhp({ ...sites[1], prefix: "/wiki" })
    )
    const context = yield* Layer.build(
      HttpRouter.serve(routes, { disableLogger: true, disableListenLog: true }).pipe(
        Layer.provideMerge(NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: 0 }))
      )
    )
    const { address } = Context.get(context, HttpServer.HttpServer)
    assert.ok("port" in address)
    return { origin: `http://127.0.0.1:${address.port}`, data: wikis.map(({ data }) => data) }
  })

  const notDrawn =
    "Array.from(document.images).filter((image) => !image.complete || image.naturalWidth === 0).map((image) => image.src)"

  /** The images of the page that are not drawn within some seconds: of these some load late. */
  const broken = async (page: Page) => {
    await page.waitForFunction(`${notDrawn}.length === 0`, undefined, { timeout: 10_000 }).catch(() => undefined)
    return page.evaluate<ReadonlyArray<string>>(notDrawn)
  }

  const browser = Effect.acquireRelease(
    Effect.promise(() => launch(executablePath!)),
    (browser) => Effect.promise(() => browser.close())
  )

  const visit = async (page: Page, site: string, data: string) => {
    const name = "picture"
    const pixels = Fs.readFileSync(join(installed, picture))
    const complaints = complaintsOf(page)
    const failed: Array<string> = []
    page.on("response", (response) => {
      if (response.status() >= 400) failed.push(`${response.status()} ${response.url()}`)
    })

    await page.goto(`${site}/`)
    assert.include(await page.title(), "start")
    assert.deepStrictEqual(await broken(page), [])
    assert.isAbove(await page.locator("img").count(), 1)
    const colour = await page.evaluate<string>(`getComputedStyle(document.body).backgroundColor`)
    assert.notStrictEqual(colour, "rgba(0, 0, 0, 0)", "the style sheet, which a script makes, is there")

    // What the wiki does behind each page takes a login that comes before its end back.
    await Promise.all([page.waitForEvent("load"), page.getByRole("link", { name: "Log In" }).click()])
    await page.locator("input[name=u]").fill("ada")
    await page.locator("input[name=p]").fill("secret")
    await page.getByRole("button", { name: "Log In" }).click()
    await page.getByText("Ada Lovelace").first().waitFor()

    // The upload of the media manager is a script's.
    await page.goto(`${site}/doku.php?id=start&do=media&tab_files=upload`)
    await page.locator(".qq-upload-button input[type=file]").setInputFiles({
      name: `${name}.png`,
      mimeType: "image/png",
      buffer: pixels
    })
    await page.locator(".qq-upload-list li").waitFor()
    await page.locator("#mediamanager__upload_button").click()
    await page.locator(".qq-upload-success").waitFor()
    assert.deepStrictEqual(Fs.readFileSync(join(data, "media", `${name}.png`)), pixels)

    await page.goto(`${site}/doku.php?id=${name}&do=edit`)
    await page.locator("#wiki__text").fill(`====== Page of \u00fc ======\n\nSaved through Effect. {{:${name}.png}}`)
    await page.getByRole("button", { name: "Save" }).click()
    await page.getByText("Saved through Effect.").waitFor()
    assert.strictEqual(await page.locator("h1.sectionedit1").innerText(), "Page of \u00fc")
    assert.strictEqual(await page.locator(`img[src*='${name}.png']`).count(), 1)
    assert.deepStrictEqual(await broken(page), [])
    assert.include(Fs.readFileSync(join(data, "pages", `${name}.txt`), "utf8"), "Saved through Effect.")
    const drawn = await page.evaluate<number>(`document.querySelector("img[src*='${name}.png']").naturalWidth`)
    assert.strictEqual(drawn, 16)

    assert.deepStrictEqual(failed, [])
    assert.deepStrictEqual(complaints, [])
  }

  it.layer(Layer.effect(Wiki, started), { excludeTestServices: true })((it) => {
    it.effect("is a wiki at the root and below /wiki: images, log in, save, upload", () =>
      Effect.gen(function*() {
        const { data, origin } = yield* Wiki
        const chromium = yield* browser
        for (const [site, folder] of [[origin, data[0]!], [`${origin}/wiki`, data[1]!]] as const) {
          yield* Effect.promise(async () => {
            const context = await chromium.newContext()
            await visit(await context.newPage(), site, folder)
            await context.close()
          })
        }
      }))

    it.effect("shows nobody what is no page of it", () =>
      Effect.gen(function*() {
        const { origin } = yield* Wiki
        for (
          const path of [
            "/inc/init.php",
            "/vendor/autoload.php",
            "/bin/wantedpages.php",
            "/.htaccess",
            "/VERSION/../inc/init.php"
          ]
        ) {
          for (const site of [origin, `${origin}/wiki`]) {
            assert.strictEqual((yield* Effect.promise(() => fetch(site + path))).status, 404, site + path)
          }
        }
      }))
  })
})
