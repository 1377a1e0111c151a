import { assert, describe, it } from "@effect/vitest"
import { isBelow, isHidden, isSource, plan, resolve, type Rules, toUrl } from "../../src/cgi/internal/phpPath.ts"

const rules: Rules = {
  prefix: "",
  index: ["index.php", "index.html"],
  frontController: undefined,
  extensions: [".php"],
  deny: ["/conf"],
  noScripts: ["/uploads"]
}

const front = { _tag: "Script", path: "/front.php", pathInfo: "" } as const
const script = (path: string, pathInfo: string | Uint8Array = "") => ({ _tag: "Script", path, pathInfo })
const refused = { _tag: "Refused" }
const invalid = { _tag: "Invalid" }
const path = (path: string) => ({ _tag: "Path", path, otherwise: undefined })

describe("plan", () => {
  const cases: ReadonlyArray<readonly [encoded: string, plan: unknown]> = [
    ["/a.php", script("/a.php")],
    ["/a.php/", script("/a.php", "/")],
    ["/a.php/b/c.php", script("/a.php", "/b/c.php")],
    ["/a.php/%C3%BC", script("/a.php", "/\u00fc")],
    ["/a.php/%ff", script("/a.php", Uint8Array.of(0x2f, 0xff))],
    ["/%61%2Ephp", script("/a.php")],
    ["/d/../a.php//b", script("/a.php", "/b")],
    ["/\u00fc.php", script("/\u00fc.php")],
    ["/%ff.php", refused],
    ["/a%5cb.php", refused],
    ["/a.PHP", path("/a.PHP")],
    ["/a.phpx", path("/a.phpx")],
    ["/d/.", {
      _tag: "Directory",
      path: "/d/",
      index: [script("/d/index.php"), { _tag: "File", path: "/d/index.html" }],
      otherwise: undefined
    }],
    ["/%ff", { _tag: "Missing", otherwise: undefined }],
    ["/a\\b", { _tag: "Missing", otherwise: undefined }],
    ["/.env", refused],
    ["/a.php/.env", refused],
    ["/.well-known/x", path("/.well-known/x")],
    ["/a/.well-known/x", refused],
    ["/.well-known/.x", refused],
    ["/conf", refused],
    ["/CONF/x", refused],
    ["/confx", path("/confx")],
    ["/uploads/a.php", refused],
    ["/Uploads/a.php", refused],
    ["/uploads/a.jpg", path("/uploads/a.jpg")],
    ["/a%0a.php", refused],
    ["/a%00.php", invalid],
    ["/../a.php", invalid],
    ["/%2e%2e/a.php", invalid],
    ["/a%zz.php", invalid],
    ["/a%", invalid],
    ["a.php", invalid],
    ["*", invalid],
    ["", invalid]
  ]
  for (const [encoded, expected] of cases) {
    it(JSON.stringify(encoded), () => {
      assert.deepStrictEqual(plan(encoded, rules) as unknown, expected)
    })
  }

  it("names the front controller where no file may be", () => {
    const withFront = { ...rules, frontController: "/front.php" }
    assert.deepStrictEqual(plan("/a", withFront), { _tag: "Path", path: "/a", otherwise: front })
    assert.deepStrictEqual(plan("/%ff", withFront), { _tag: "Missing", otherwise: front })
    assert.deepStrictEqual(plan("/a.php", withFront), script("/a.php") as typeof front)
  })

  it("shows no index script where none may run", () => {
    const found = plan("/uploads/", rules)
    assert.ok(found._tag === "Directory")
    assert.deepStrictEqual(found.index[0], { _tag: "File", path: "/uploads/index.php" })
    assert.isTrue(isSource("/uploads/index.php", rules.extensions))
  })

  it("takes the prefix off the path that has been resolved", () => {
    const below = { ...rules, prefix: "/a/\u00fc" }
    assert.deepStrictEqual(plan("/a/%C3%BC/b.php", below), script("/b.php") as typeof front)
    assert.deepStrictEqual(plan("/x/../a/%c3%bc/b", below), path("/b") as never)
    assert.deepStrictEqual(plan("/a/%C3%BC", below), { _tag: "Prefix" })
    for (const outside of ["/a/%C3%BCx/b.php", "/b.php", "/a/%C3%BC/../b.php", "/"]) {
      assert.deepStrictEqual(plan(outside, below), { _tag: "Refused" }, outside)
    }
  })

  it("leads to no file outside, hidden, denied or with a control character, whatever the URL", () => {
    const parts = [
      "/",
      "//",
      ".",
      "..",
      "%2e",
      "%2f",
      "%00",
      "%5c",
      "\\",
      "a",
      ".php",
      "conf",
      "uploads",
      "%",
      "%ff",
      ".git",
      "%0a",
      ";",
      "?",
      "A",
      "CONF"
    ]
    let seed = 1
    const random = () => (seed = (seed * 48271) % 2147483647)
    const kinds = new Set<string>()
    for (let i = 0; i < 5_000; i++) {
      let url = "/"
      for (let n = random() % 8; n >= 0; n--) url += parts[random() % parts.length]
      const found = plan(url, rules)
      kinds.add(found._tag)
      const files = found._tag === "Script" || found._tag === "Path"
        ? [found.path]
        : found._tag === "Directory"
        ? found.index.map(({ path }) => path)
        : []
      for (const file of files) {
        // oxlint-disable-next-line no-control-regex -- control characters are the point
        assert.notMatch(file, /(?:^|\/)\.\.?(?:\/|$)|\/\/|[\x00-\x1f\\]|^\/conf(?:\/|$)|^[^/]/i, url)
        assert.isFalse(isHidden(file), url)
      }
      if (found._tag === "Script") assert.isFalse(isBelow(found.path, rules.noScripts), url)
    }
    assert.deepStrictEqual(Array.from(kinds).sort(), ["Directory", "Invalid", "Missing", "Path", "Refused", "Script"])
  })
})

describe("isSource", () => {
  it("knows scripts and what is left of them", () => {
    for (
      const name of [
        "a.php",
        "a.PHP",
        "a.php5",
        "a.phtml",
        "a.phar",
        "a.inc",
        "a.php~",
        "a.php.bak",
        "a.php.orig.old",
        "a.php_old",
        "a.php.",
        "a.php. .",
        "a.php ",
        "#a.php#",
        ".php"
      ]
    ) assert.isTrue(isSource(`/d/${name}`, [".php"]), name)
    assert.isTrue(isSource("/a.hh~", [".hh"]))
    for (const name of ["a.php.jpg", "a.txt", "a.phpx", "php", "a.html~", "a", "a.php/b"]) {
      assert.isFalse(isSource(`/d/${name}`, [".php"]), name)
    }
  })
})

describe("toUrl", () => {
  it("is a path of this host", () => {
    assert.strictEqual(toUrl("/a b/\u00fc%?#/", "/w x"), "/w%20x/a%20b/%C3%BC%25%3F%23/")
    assert.strictEqual(toUrl("/a\\b", ""), "/a%5Cb")
  })
})

describe("resolve", () => {
  it("is the path as text", () => {
    assert.strictEqual(resolve("/a/../b%20%C3%BC"), "/b \u00fc")
    for (const none of ["/..", "/%ff", "/%00", "/%", "x", "/%0a"]) assert.isUndefined(resolve(none), none)
  })
})
