import { assert, describe, it } from "@effect/vitest"
import { CgiParams, CgiRequest, FastCgiParams } from "effect-fastcgi"
import * as Path from "node:path"
import { ascii } from "../protocol/support/cuts.ts"

const paramsOf = (request: CgiParams.CgiParamsRequest): FastCgiParams.FastCgiParams => {
  const entries = CgiParams.fromRequest(request)
  if (entries instanceof CgiParams.CgiParamsError) assert.fail(entries.message)
  return FastCgiParams.fromEntries(entries)
}

/** The params as they arrive, one character per byte. */
const sent = (request: CgiParams.CgiParamsRequest): ReadonlyArray<readonly [string, string]> => {
  const entries: Array<readonly [string, string]> = []
  paramsOf(request).forEachLatin1((name, value) => entries.push([name, value]))
  return entries
}

const kindOf = (request: CgiParams.CgiParamsRequest): CgiParams.CgiParamsErrorReason["_tag"] | undefined => {
  const result = CgiParams.fromRequest(request)
  return result instanceof CgiParams.CgiParamsError ? result.reason._tag : undefined
}

const record = (request: CgiParams.CgiParamsRequest): Readonly<Record<string, string>> =>
  Object.fromEntries(sent(request))

describe("fromRequest", () => {
  it("is what nginx sends, in its order", () => {
    assert.deepStrictEqual(
      sent({
        method: "POST",
        url: "/app/x%20y?v=ok&a=%31",
        headers: {
          host: "example.test:8080",
          "content-type": "text/plain",
          "content-length": "17",
          "x-custom-name": "one",
          accept: "*/*"
        },
        scheme: "https",
        remoteAddress: "127.0.0.1",
        remotePort: 54712,
        serverAddress: "127.0.0.2",
        serverPort: 18101,
        serverName: "www.example.test",
        serverProtocol: "HTTP/2.0",
        documentRoot: "/srv/www"
      }),
      [
        ["SCRIPT_FILENAME", "/srv/www/app/x y"],
        ["QUERY_STRING", "v=ok&a=%31"],
        ["REQUEST_METHOD", "POST"],
        ["CONTENT_TYPE", "text/plain"],
        ["CONTENT_LENGTH", "17"],
        ["SCRIPT_NAME", "/app/x y"],
        ["REQUEST_URI", "/app/x%20y?v=ok&a=%31"],
        ["DOCUMENT_ROOT", "/srv/www"],
        ["SERVER_PROTOCOL", "HTTP/2.0"],
        ["REQUEST_SCHEME", "https"],
        ["HTTPS", "on"],
        ["GATEWAY_INTERFACE", "CGI/1.1"],
        ["SERVER_SOFTWARE", "effect-fastcgi"],
        ["REMOTE_ADDR", "127.0.0.1"],
        ["REMOTE_PORT", "54712"],
        ["SERVER_ADDR", "127.0.0.2"],
        ["SERVER_PORT", "18101"],
        ["SERVER_NAME", "www.example.test"],
        ["REDIRECT_STATUS", "200"],
        ["HTTP_HOST", "example.test:8080"],
        ["HTTP_X_CUSTOM_NAME", "one"],
        ["HTTP_ACCEPT", "*/*"]
      ]
    )
  })

  it("needs only a method and a target", () => {
    assert.deepStrictEqual(sent({ method: "GET", url: "/" }), [
      ["QUERY_STRING", ""],
      ["REQUEST_METHOD", "GET"],
      ["SCRIPT_NAME", "/"],
      ["REQUEST_URI", "/"],
      ["SERVER_PROTOCOL", "HTTP/1.1"],
      ["REQUEST_SCHEME", "http"],
      ["GATEWAY_INTERFACE", "CGI/1.1"],
      ["SERVER_SOFTWARE", "effect-fastcgi"],
      ["SERVER_PORT", "80"],
      ["SERVER_NAME", "localhost"],
      ["REDIRECT_STATUS", "200"]
    ])
  })

  it("knows the server from the host where it is not told", () => {
    const hosts: ReadonlyArray<readonly [host: string, scheme: "http" | "https", name: string, port: string]> = [
      ["a.test", "http", "a.test", "80"],
      ["a.test", "https", "a.test", "443"],
      ["a.test:8080", "http", "a.test", "8080"],
      ["[::1]:81", "http", "[::1]", "81"],
      ["[::1]", "https", "[::1]", "443"],
      ["[2001:DB8::192.0.2.1]:65535", "http", "[2001:DB8::192.0.2.1]", "65535"],
      ["192.0.2.1:", "http", "192.0.2.1", "80"],
      ["A_b-c.~test", "http", "A_b-c.~test", "80"]
    ]
    for (const [host, scheme, name, port] of hosts) {
      for (const request of [{ host }, { headers: { Host: host } }]) {
        const params = record({ method: "GET", url: "/", scheme, ...request })
        assert.strictEqual(params["SERVER_NAME"], name)
        assert.strictEqual(params["SERVER_PORT"], port)
        assert.strictEqual(params["HTTP_HOST"], host)
      }
    }
    assert.strictEqual(record({ method: "GET", url: "/", host: "a", headers: { host: "b" } })["HTTP_HOST"], "b")
  })

  it("is refused where the host is none, whatever name the server is given", () => {
    const hosts = [
      "x\"><script>",
      "a b",
      "a/b",
      "a@b",
      "a:b",
      "a:80:80",
      "a:65536",
      "a:123456",
      "a:-1",
      "::1",
      "[::1",
      "[::1]x",
      "[a.test]",
      "[]",
      ":80",
      "a,b",
      "a\r\nb",
      "a\0",
      "caf\u00e9.test",
      "$(id)",
      "'"
    ]
    for (const host of hosts) {
      for (const request of [{ host }, { headers: { Host: host } }, { host, serverName: "a.test" }]) {
        assert.strictEqual(kindOf({ method: "GET", url: "/", ...request }), "InvalidHost", host)
      }
    }
    assert.strictEqual(record({ method: "GET", url: "/", host: "" })["SERVER_NAME"], "localhost")
  })

  describe("paths", () => {
    const rows: ReadonlyArray<
      readonly [
        request: Partial<CgiParams.CgiParamsRequest> & { readonly url: string },
        script: string,
        info: string | undefined
      ]
    > = [
      [{ url: "/app/x?y" }, "/app/x", undefined],
      [{ url: "/app/x?y", scriptName: "/app" }, "/app", "/x"],
      [{ url: "/app/x/y", scriptName: "" }, "", "/app/x/y"],
      [{ url: "/app", scriptName: "/app" }, "/app", undefined],
      [{ url: "/other", scriptName: "/app" }, "/app", undefined],
      [{ url: "/apple", scriptName: "/app" }, "/app", undefined],
      [{ url: "/app/x", scriptName: "/app", pathInfo: "/z" }, "/app", "/z"],
      [{ url: "/a%2Fb%3F%23%25?c%3D" }, "/a/b?#%", undefined],
      [{ url: "/caf%C3%A9/%E9" }, "/cafÃ©/é", undefined],
      [{ url: "/caf%c3%a9/x", scriptName: "/café" }, "/cafÃ©", "/x"],
      [{ url: "/%zz%4", scriptName: "/%zz%4" }, "/%zz%4", undefined],
      // The neighbours of the digits "0" to "9", "A" to "F" and "a" to "f" are none.
      [{ url: "/%/0%0/%:0%0:%@0%0@%G0%0G%`0%0`%g0%0g" }, "/%/0%0/%:0%0:%@0%0@%G0%0G%`0%0`%g0%0g", undefined],
      [{ url: "/%30%39%41%46%61%66%4a%4A%6f%6F" }, "/09AFafJJoo", undefined],
      [{ url: "/%%32e%%32%65/x%" }, "/%2e%2e/x%", undefined],
      [{ url: "/%0d%0a" }, "/\r\n", undefined],
      // As nginx resolves them.
      [{ url: "/a/../b" }, "/b", undefined],
      [{ url: "/a/.." }, "/", undefined],
      [{ url: "/a/b/.." }, "/a/", undefined],
      [{ url: "/a/./b/." }, "/a/b/", undefined],
      [{ url: "/a%2F%2e%2E%2fb" }, "/b", undefined],
      [{ url: "/a/%252e%252e/b" }, "/a/%2e%2e/b", undefined],
      [{ url: "//a///b//" }, "/a/b/", undefined],
      [{ url: "/a/...//.b/..c/d.." }, "/a/.../.b/..c/d..", undefined],
      [{ url: "/a\\..\\b" }, "/a\\..\\b", undefined],
      [{ url: "/a?/../../b" }, "/a", undefined],
      [{ url: "/a#/../../b?c" }, "/a", undefined],
      [{ url: "/a.php/x/../y", scriptName: "/a.php" }, "/a.php", "/y"],
      [{ url: "/a.php/../b", scriptName: "/a.php" }, "/a.php", undefined]
    ]
    for (const [request, script, info] of rows) {
      it(`${request.url}${request.scriptName === undefined ? "" : ` of the script ${JSON.stringify(request.scriptName)}`}`, () => {
        const params = record({ method: "GET", ...request })
        assert.strictEqual(params["SCRIPT_NAME"], script)
        assert.strictEqual(params["PATH_INFO"], info)
        assert.strictEqual(params["REQUEST_URI"], request.url)
      })
    }

    it("a query is what follows the first ?, where no # is in front of it", () => {
      assert.strictEqual(record({ method: "GET", url: "/a?b?c#d" })["QUERY_STRING"], "b?c#d")
      assert.strictEqual(record({ method: "GET", url: "/a#b?c" })["QUERY_STRING"], "")
    })

    const refused: ReadonlyArray<readonly [url: string, kind: CgiParams.CgiParamsErrorReason["_tag"]]> = [
      ["/..", "AboveRoot"],
      ["/../x", "AboveRoot"],
      ["/a/../../x", "AboveRoot"],
      ["//../x", "AboveRoot"],
      ["/./../x", "AboveRoot"],
      ["/%2e%2e/x", "AboveRoot"],
      ["/.%2E/x", "AboveRoot"],
      ["/..%2fx", "AboveRoot"],
      ["/..%2f..%2fetc%2fx.php", "AboveRoot"],
      ["/a/..%2F..", "AboveRoot"],
      ["/x.php%00.png", "ControlCharacter"],
      ["/a/%00/../b", "ControlCharacter"],
      ["/x\0", "ControlCharacter"],
      ["/x?a\r\nb", "ControlCharacter"],
      ["/x\x7f", "ControlCharacter"],
      ["*", "NotAPath"],
      ["", "NotAPath"],
      ["?a", "NotAPath"],
      ["x", "NotAPath"],
      ["example.test:443", "NotAPath"],
      ["http://example.test/", "NotAPath"],
      ["%2fx", "NotAPath"]
    ]
    for (const [url, kind] of refused) {
      it(`${JSON.stringify(url)} is refused, as nginx does it`, () => {
        assert.strictEqual(kindOf({ method: "GET", url, documentRoot: "/srv/www" }), kind)
      })
    }

    it("a script or a rest that is no path below the document root is refused", () => {
      for (const path of ["x", "/../x", "/a/..", "/x\0y", "*"]) {
        for (const request of [{ scriptName: path }, { pathInfo: path }]) {
          assert.strictEqual(kindOf({ method: "GET", url: "/", documentRoot: "/srv/www", ...request }), "NotAPath")
        }
      }
    })

    it("SCRIPT_FILENAME never leaves the document root, whatever the target is made of", () => {
      const parts = ["/", "//", "..", ".", "a", "%2e", "%2E", "%2f", "%2F", "%5c", "%00", "%", "?", "#", "%25", "%2"]
      // A fixed sequence of pseudorandom numbers (Numerical Recipes).
      let seed = 1
      const next = (below: number) => (seed = seed * 1664525 + 1013904223 >>> 0) % below
      let accepted = 0
      for (let i = 0; i < 50_000; i++) {
        const url = "/" + Array.from({ length: next(10) }, () => parts[next(parts.length)]).join("")
        const entries = CgiParams.fromRequest({ method: "GET", url, documentRoot: "/srv/www" })
        if (entries instanceof CgiParams.CgiParamsError) continue
        accepted++
        const file = FastCgiParams.fromEntries(entries).get("SCRIPT_FILENAME")!
        assert.isTrue(Path.resolve(file).startsWith("/srv/www"), `${url}: ${file}`)
        assert.notMatch(file, /\0|\/\.\.?(\/|$)|\/\//, url)
      }
      assert.isAbove(accepted, 5_000)
    })

    it("SCRIPT_FILENAME is below the document root unless it is given", () => {
      const request = { method: "GET", url: "/caf%C3%A9/i.php/x", scriptName: "/café/i.php", documentRoot: "/srv/é" }
      assert.strictEqual(record(request)["SCRIPT_FILENAME"], "/srv/Ã©/cafÃ©/i.php")
      assert.strictEqual(record({ ...request, scriptFilename: "/other.php" })["SCRIPT_FILENAME"], "/other.php")
      assert.isUndefined(record({ method: "GET", url: "/x" })["SCRIPT_FILENAME"])
    })
  })

  describe("headers", () => {
    const headersSent = (headers: CgiParams.CgiParamsRequest["headers"]): ReadonlyArray<readonly [string, string]> =>
      sent({ method: "GET", url: "/", headers }).filter(([name]) =>
        name.startsWith("HTTP_") || name.startsWith("CONTENT_")
      )

    it("Proxy and those about one hop are never passed on", () => {
      assert.deepStrictEqual(
        headersSent({
          Proxy: "http://evil.test",
          proxy: "http://evil.test",
          Connection: "keep-alive",
          "Keep-Alive": "x",
          "Proxy-Connection": "x",
          TE: "trailers",
          Trailer: "x",
          "Transfer-Encoding": "chunked",
          Upgrade: "websocket",
          "HTTP2-Settings": "x",
          "X-Ok": "1"
        }),
        [["HTTP_X_OK", "1"]]
      )
    })

    it("that Connection names are about one hop, but for those that the request hangs on", () => {
      assert.deepStrictEqual(
        headersSent([
          ["X-One", "1"],
          ["Connection", "close, x-one ,X-TWO,, Host, Content-Length, content-type"],
          ["Host", "a.test"],
          ["Content-Length", "5"],
          ["Content-Type", "a/b"],
          ["X-Two", "2"],
          ["connection", "x-three"],
          ["X-Three", "3"],
          ["X-Four", "4"]
        ]),
        [["CONTENT_TYPE", "a/b"], ["CONTENT_LENGTH", "5"], ["HTTP_HOST", "a.test"], ["HTTP_X_FOUR", "4"]]
      )
    })

    it("with an underscore could not be told from a dash, so they are not passed on", () => {
      assert.deepStrictEqual(headersSent({ "X_Forwarded_User": "evil", "X-Forwarded-User": "alice" }), [
        ["HTTP_X_FORWARDED_USER", "alice"]
      ])
    })

    it("that are no field names are not passed on", () => {
      assert.deepStrictEqual(headersSent({ "": "1", "X Y": "1", "É": "1", "X\r\nY": "1", "X.Y": "1" }), [[
        "HTTP_X.Y",
        "1"
      ]])
    })

    it("that come twice are two params", () => {
      assert.deepStrictEqual(
        headersSent([["Cookie", "a=1"], ["X", "1"], ["cookie", "b=2"], ["Host", "a"], ["host", "b"]]),
        [
          ["HTTP_HOST", "a"],
          ["HTTP_COOKIE", "a=1"],
          ["HTTP_X", "1"],
          ["HTTP_COOKIE", "b=2"]
        ]
      )
    })

    it("are bytes: one per character, or UTF-8 where a character is no byte", () => {
      assert.deepStrictEqual(headersSent({ "x-latin": "é\u0080", "x-utf": "€" }), [
        ["HTTP_X_LATIN", "é\u0080"],
        ["HTTP_X_UTF", "â\u0082¬"]
      ])
    })

    it("of the body are CONTENT_TYPE and CONTENT_LENGTH only, and give way to what is said apart", () => {
      assert.deepStrictEqual(headersSent({ "Content-Type": "a/b", "Content-Length": "5" }), [
        ["CONTENT_TYPE", "a/b"],
        ["CONTENT_LENGTH", "5"]
      ])
      const params = record({
        method: "POST",
        url: "/",
        headers: { "content-type": "a/b", "content-length": "5" },
        contentType: "c/d",
        contentLength: 0
      })
      assert.strictEqual(params["CONTENT_TYPE"], "c/d")
      assert.strictEqual(params["CONTENT_LENGTH"], "0")
    })
  })

  it("extra params replace those of the same name, and may be bytes", () => {
    const entries = sent({
      method: "GET",
      url: "/",
      headers: { "x-a": "1" },
      extra: { SERVER_SOFTWARE: "mine", HTTP_X_A: "", REMOTE_USER: "alice", BYTES: ascii("\0é") }
    })
    assert.deepStrictEqual(entries.filter(([name]) => name === "SERVER_SOFTWARE"), [["SERVER_SOFTWARE", "mine"]])
    assert.deepStrictEqual(entries.filter(([name]) => name === "HTTP_X_A"), [["HTTP_X_A", ""]])
    assert.deepStrictEqual(entries.slice(-4), [
      ["SERVER_SOFTWARE", "mine"],
      ["HTTP_X_A", ""],
      ["REMOTE_USER", "alice"],
      ["BYTES", "\0é"]
    ])
  })

  it("comes back as the same request at the other end", () => {
    const headers = { host: "example.test:8080", cookie: "a=1; b=2", "x-y": "é", "content-type": "text/plain" }
    const params = paramsOf({
      method: "PUT",
      url: "/caf%C3%A9/a%2Fb?x=%20",
      headers,
      scheme: "https",
      contentLength: 5,
      remoteAddress: "::1",
      remotePort: 1234
    })
    assert.strictEqual(CgiRequest.method(params), "PUT")
    assert.strictEqual(CgiRequest.url(params), "/caf%C3%A9/a%2Fb?x=%20")
    assert.strictEqual(CgiRequest.originalUrl(params), "https://example.test:8080/caf%C3%A9/a%2Fb?x=%20")
    assert.strictEqual(CgiRequest.contentLength(params), 5)
    assert.deepStrictEqual({ ...CgiRequest.headers(params) }, { ...headers, "content-length": "5" })
    const variables = CgiRequest.variables(params)
    assert.strictEqual(variables.remoteAddress, "::1")
    assert.strictEqual(variables.remotePort, 1234)
    assert.strictEqual(variables.scriptName, "/café/a/b")
  })
})
