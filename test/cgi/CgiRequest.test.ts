import { assert, describe, it } from "@effect/vitest"
import { CgiRequest, FastCgiParams } from "effect-fastcgi"
import * as Headers from "effect/http/Headers"
import { ascii } from "../protocol/support/cuts.ts"

type Value = string | Uint8Array

const params = (...entries: ReadonlyArray<readonly [string, Value]>): FastCgiParams.FastCgiParams =>
  FastCgiParams.fromEntries(entries)

const from = (record: Readonly<Record<string, Value>>): FastCgiParams.FastCgiParams =>
  FastCgiParams.fromEntries(Object.entries(record))

const headersOf = (...entries: ReadonlyArray<readonly [string, Value]>): Record<string, string> => ({
  ...CgiRequest.headers(params(...entries))
})

describe("method", () => {
  it("is REQUEST_METHOD in upper case, GET when there is none", () => {
    assert.strictEqual(CgiRequest.method(from({ REQUEST_METHOD: "POST" })), "POST")
    assert.strictEqual(CgiRequest.method(from({ REQUEST_METHOD: "get" })), "GET")
    assert.strictEqual(CgiRequest.method(from({ REQUEST_METHOD: "M-Search" })), "M-SEARCH")
    assert.strictEqual(CgiRequest.method(from({ REQUEST_METHOD: "" })), "GET")
    assert.strictEqual(CgiRequest.method(from({})), "GET")
  })
})

describe("url from the script", () => {
  const rows: ReadonlyArray<readonly [name: string, from: Readonly<Record<string, Value>>, url: string]> = [
    ["nginx: all in SCRIPT_NAME", { SCRIPT_NAME: "/frag", DOCUMENT_URI: "/frag", QUERY_STRING: "a=b" }, "/frag?a=b"],
    ["nginx: split", { SCRIPT_NAME: "/app", PATH_INFO: "/frag", DOCUMENT_URI: "/app/frag" }, "/app/frag"],
    [
      "nginx: PATH_INFO $fastcgi_script_name",
      { SCRIPT_NAME: "/frag/a", PATH_INFO: "/frag/a", DOCUMENT_URI: "/frag/a" },
      "/frag/a"
    ],
    ["nginx: SCRIPT_NAME empty", { SCRIPT_NAME: "", PATH_INFO: "/frag" }, "/frag"],
    ["nginx: no more than DOCUMENT_URI", { DOCUMENT_URI: "/frag" }, "/frag"],
    ["Caddy, h2o: all in PATH_INFO", { SCRIPT_NAME: "", PATH_INFO: "/frag" }, "/frag"],
    ["HAProxy: no SCRIPT_NAME", { PATH_INFO: "/frag" }, "/frag"],
    ["lighttpd: an application at the root", { SCRIPT_NAME: "/", PATH_INFO: "/frag" }, "/frag"],
    ["the script itself", { SCRIPT_NAME: "/app", PATH_INFO: "" }, "/app"],
    ["a directory", { SCRIPT_NAME: "/app/", PATH_INFO: "/frag" }, "/app/frag"],
    ["mod_fcgid: split after a segment", { SCRIPT_NAME: "/a", PATH_INFO: "/b/c" }, "/a/b/c"],
    ["Apache: SSI, whose DOCUMENT_URI is the page", { SCRIPT_NAME: "/frag", DOCUMENT_URI: "/page.shtml" }, "/frag"],
    ["IIS: PATH_INFO has the script's path", { SCRIPT_NAME: "/app.dll", PATH_INFO: "/app.dll/frag" }, "/app.dll/frag"],
    ["and only that", { SCRIPT_NAME: "/app.dll", PATH_INFO: "/app.dll" }, "/app.dll"],
    ["not where it only begins so", { SCRIPT_NAME: "/app", PATH_INFO: "/apple" }, "/app/apple"],
    ["nor where the client has asked for that", {
      SCRIPT_NAME: "/app",
      PATH_INFO: "/app/x",
      REQUEST_URI: "/app/app/x?y"
    }, "/app/app/x"],
    [
      "nor where DOCUMENT_URI says it",
      { SCRIPT_NAME: "/app", PATH_INFO: "/app", DOCUMENT_URI: "/app/app" },
      "/app/app"
    ],
    ["what is decoded is encoded", { SCRIPT_NAME: "/a b", PATH_INFO: "/100%/?#\r\n" }, "/a%20b/100%25/%3F%23%0D%0A"],
    ["bytes that are no ASCII", { SCRIPT_NAME: "/caf\u00e9" }, "/caf%C3%A9"],
    [
      "as the client has encoded it",
      { REQUEST_URI: "/a%2Fb%7e?c", SCRIPT_NAME: "/a/b~", QUERY_STRING: "c" },
      "/a%2Fb%7e?c"
    ],
    ["but not its query", { REQUEST_URI: "/a?page", SCRIPT_NAME: "/a", QUERY_STRING: "fragment" }, "/a?fragment"],
    ["without a query", { REQUEST_URI: "/a?page", SCRIPT_NAME: "/a", QUERY_STRING: "" }, "/a"],
    ["another path than the client's", { REQUEST_URI: "/page?a=b", SCRIPT_NAME: "/frag", QUERY_STRING: "" }, "/frag"],
    ["nothing but REQUEST_URI", { REQUEST_URI: "/a%20b?c", QUERY_STRING: "c" }, "/a%20b?c"],
    ["an absolute form", { REQUEST_URI: "http://a.test/x%41", SCRIPT_NAME: "/xA" }, "/x%41"],
    ["OPTIONS *", { REQUEST_METHOD: "OPTIONS", REQUEST_URI: "*", SCRIPT_NAME: "*" }, "*"],
    ["nothing at all", {}, "/"]
  ]
  for (const [name, record, url] of rows) {
    it(name, () => {
      assert.strictEqual(CgiRequest.url(from(record), { from: "script" }), url)
      assert.strictEqual(
        CgiRequest.url(from({ REQUEST_URI: "/client", ...record }), { from: "request" }),
        CgiRequest.url(from({ REQUEST_URI: "/client", ...record }))
      )
    })
  }

  it("is below the base path", () => {
    const options = { from: "script", basePath: "/app" } as const
    assert.strictEqual(CgiRequest.url(from({ REQUEST_URI: "/app/page", SCRIPT_NAME: "/app/frag" }), options), "/frag")
  })
})

describe("url", () => {
  const rows: ReadonlyArray<readonly [name: string, from: Readonly<Record<string, Value>>, url: string]> = [
    ["REQUEST_URI as it is", { REQUEST_URI: "/a/b?c=d&e", SCRIPT_NAME: "/x" }, "/a/b?c=d&e"],
    ["encodings of the client are kept", { REQUEST_URI: "/a%2Fb%2fc%00?x=%zz" }, "/a%2Fb%2fc%00?x=%zz"],
    ["an empty query is kept", { REQUEST_URI: "/a?" }, "/a?"],
    ["two slashes are a path, not an authority", { REQUEST_URI: "//evil.test/a" }, "//evil.test/a"],
    ["raw UTF-8 byte by byte", { REQUEST_URI: "/café/€?q=é" }, "/caf%C3%A9/%E2%82%AC?q=%C3%A9"],
    ["raw Latin-1 byte by byte", { REQUEST_URI: Uint8Array.of(0x2f, 0xe9) }, "/%E9"],
    ["spaces and control characters", { REQUEST_URI: ascii("/a b\r\nX: y\0\t\x7f") }, "/a%20b%0D%0AX:%20y%00%09%7F"],
    ["absolute-form", { REQUEST_URI: "http://other.test/app/x?y=1" }, "/app/x?y=1"],
    ["absolute-form with a port and a user", { REQUEST_URI: "HTTPS://u:p@other.test:8443/x" }, "/x"],
    ["absolute-form without a path", { REQUEST_URI: "http://other.test" }, "/"],
    ["absolute-form with a query only", { REQUEST_URI: "http://other.test?a=/b" }, "/?a=/b"],
    ["absolute-form with raw bytes", { REQUEST_URI: "http://other.test/é é" }, "/%C3%A9%20%C3%A9"],
    ["OPTIONS *", { REQUEST_METHOD: "OPTIONS", REQUEST_URI: "*", SCRIPT_NAME: "" }, "*"],
    ["* of another method is no target", { REQUEST_METHOD: "GET", REQUEST_URI: "*" }, "/"],
    ["CONNECT's authority is no target", { REQUEST_METHOD: "CONNECT", REQUEST_URI: "a.test:443" }, "/"],
    ["an empty REQUEST_URI counts as none", { REQUEST_URI: "", SCRIPT_NAME: "/a" }, "/a"],
    ["SCRIPT_NAME and PATH_INFO", { SCRIPT_NAME: "/app", PATH_INFO: "/x/y", QUERY_STRING: "" }, "/app/x/y"],
    ["and the query", { SCRIPT_NAME: "/app", PATH_INFO: "/x", QUERY_STRING: "a=%20&b" }, "/app/x?a=%20&b"],
    ["PATH_INFO alone, as of Caddy", { SCRIPT_NAME: "", PATH_INFO: "/app/x" }, "/app/x"],
    ["nothing at all", {}, "/"],
    ["a query alone", { QUERY_STRING: "a=1" }, "/?a=1"],
    ["a path without its slash", { SCRIPT_NAME: "app" }, "/app"],
    [
      "a decoded path is encoded again: what would end it, or be decoded once more",
      { SCRIPT_NAME: "/a?b#c%d e", PATH_INFO: ascii("/\r\nSet-Cookie: x=1\0") },
      "/a%3Fb%23c%25d%20e/%0D%0ASet-Cookie:%20x=1%00"
    ],
    ["a decoded path in UTF-8", { SCRIPT_NAME: "/café", PATH_INFO: "/€" }, "/caf%C3%A9/%E2%82%AC"],
    ["a decoded path in Latin-1", { SCRIPT_NAME: Uint8Array.of(0x2f, 0xe9) }, "/%E9"],
    ["what may stand in a path stays", { PATH_INFO: "/a;b=c/@:~!$&'()*+,-._" }, "/a;b=c/@:~!$&'()*+,-._"],
    ["brackets, quotes and pipes may not", { PATH_INFO: "/[\"<>\\^`{|}]" }, "/%5B%22%3C%3E%5C%5E%60%7B%7C%7D%5D"],
    ["a query with what may not stand in one", { QUERY_STRING: "é #\n" }, "/?%C3%A9%20%23%0A"]
  ]
  for (const [name, record, expected] of rows) {
    it(name, () => assert.strictEqual(CgiRequest.url(from(record)), expected))
  }

  const mounted: ReadonlyArray<readonly [uri: string, basePath: string, url: string]> = [
    ["/app/x?y", "/app", "/x?y"],
    ["/app", "/app", "/"],
    ["/app?y", "/app", "/?y"],
    ["/app/", "/app", "/"],
    ["/apple", "/app", "/apple"],
    ["/x/app", "/app", "/x/app"],
    ["/app/x", "/app/", "/x"],
    ["/app/x", "app", "/x"],
    ["/app/x", "", "/app/x"],
    ["/app/x", "/", "/app/x"],
    ["/a/b/c", "/a/b", "/c"],
    ["/app//x", "/app", "//x"],
    ["/APP/x", "/app", "/APP/x"],
    ["/caf%C3%A9/x", "/café", "/x"],
    ["/caf%C3%A9/x", "/caf%C3%A9", "/x"],
    ["/caf%c3%a9/x", "/café", "/x"],
    // What the web server has matched is the decoded path.
    ["/%61%70p/%78?y", "/app", "/%78?y"],
    ["/%61pp", "/app", "/"],
    ["/%61pple", "/app", "/%61pple"],
    ["/%61pp%2Fx", "/app", "/%61pp%2Fx"],
    ["%2Fapp/x", "/app", "/"],
    ["/a%2Fb/x", "/a/b", "/a%2Fb/x"],
    ["/a%2fb/x", "/a%2Fb", "/x"],
    ["/%6", "/app", "/%6"],
    ["/%61p", "/app", "/%61p"],
    ["/a%zzp/x", "/app", "/a%zzp/x"],
    // Web servers that merge slashes and resolve dots have matched this too; the client is not helped.
    ["//app/x", "/app", "//app/x"],
    ["/./app/x", "/app", "/./app/x"],
    ["http://h/app/x", "/app", "/x"]
  ]
  for (const [uri, basePath, expected] of mounted) {
    it(`${uri} below ${basePath === "" ? "nothing" : basePath} is ${expected}`, () =>
      assert.strictEqual(CgiRequest.url(from({ REQUEST_URI: uri }), { basePath }), expected))
  }

  it("a prefix that SCRIPT_NAME has, where there is no REQUEST_URI", () => {
    const rows: ReadonlyArray<readonly [Readonly<Record<string, Value>>, string]> = [
      [{ SCRIPT_NAME: "/app", PATH_INFO: "/x y", QUERY_STRING: "q=%20" }, "/x%20y?q=%20"],
      [{ SCRIPT_NAME: "/app", PATH_INFO: "" }, "/"],
      [{ SCRIPT_NAME: "/app", QUERY_STRING: "q" }, "/?q"],
      [{ SCRIPT_NAME: "/app/x" }, "/x"],
      [{ SCRIPT_NAME: "", PATH_INFO: "/app/x" }, "/x"],
      [{ PATH_INFO: "/x" }, "/x"],
      [{ SCRIPT_NAME: "/apple", PATH_INFO: "/x" }, "/apple/x"]
    ]
    for (const [record, expected] of rows) {
      assert.strictEqual(CgiRequest.url(from(record), { basePath: "/app" }), expected)
    }
  })

  it("OPTIONS * is below every mount point", () =>
    assert.strictEqual(
      CgiRequest.url(from({ REQUEST_METHOD: "OPTIONS", REQUEST_URI: "*" }), { basePath: "/app" }),
      "*"
    ))
})

describe("scheme, host and originalUrl", () => {
  it("https when HTTPS is anything but off, or REQUEST_SCHEME says so", () => {
    const rows: ReadonlyArray<readonly [Readonly<Record<string, string>>, "http" | "https"]> = [
      [{}, "http"],
      [{ HTTPS: "on" }, "https"],
      [{ HTTPS: "1" }, "https"],
      [{ HTTPS: "ON" }, "https"],
      [{ HTTPS: "off" }, "http"],
      [{ HTTPS: "OFF" }, "http"],
      [{ HTTPS: "" }, "http"],
      [{ REQUEST_SCHEME: "https" }, "https"],
      [{ HTTPS: "", REQUEST_SCHEME: "https" }, "https"],
      [{ REQUEST_SCHEME: "http" }, "http"],
      [{ HTTP_X_FORWARDED_PROTO: "https", HTTP_FORWARDED: "proto=https", HTTP_HTTPS: "on" }, "http"]
    ]
    for (const [record, scheme] of rows) {
      assert.strictEqual(CgiRequest.scheme(from(record)), scheme, JSON.stringify(record))
    }
  })

  const hosts: ReadonlyArray<readonly [name: string, Readonly<Record<string, string>>, string | undefined]> = [
    ["the Host header", { HTTP_HOST: "a.test:8080", SERVER_NAME: "b.test", SERVER_PORT: "80" }, "a.test:8080"],
    ["an absolute-form target first", { REQUEST_URI: "http://c.test:81/x", HTTP_HOST: "a.test" }, "c.test:81"],
    ["without its user", { REQUEST_URI: "http://u:p@c.test/x", HTTP_HOST: "a.test" }, "c.test"],
    ["but not an empty authority", { REQUEST_URI: "http:///x", HTTP_HOST: "a.test" }, "a.test"],
    ["a query is no authority", { REQUEST_URI: "/x?u=http://evil.test/", HTTP_HOST: "a.test" }, "a.test"],
    ["SERVER_NAME and SERVER_PORT", { SERVER_NAME: "b.test", SERVER_PORT: "8080" }, "b.test:8080"],
    ["an empty Host counts as none", { HTTP_HOST: "", SERVER_NAME: "b.test", SERVER_PORT: "8080" }, "b.test:8080"],
    ["without the default port of http", { SERVER_NAME: "b.test", SERVER_PORT: "80" }, "b.test"],
    ["without the default port of https", { SERVER_NAME: "b.test", SERVER_PORT: "443", HTTPS: "on" }, "b.test"],
    ["443 is not http's", { SERVER_NAME: "b.test", SERVER_PORT: "443" }, "b.test:443"],
    ["SERVER_NAME with the port, as of HAProxy", { SERVER_NAME: "b.test:18130", SERVER_PORT: "18130" }, "b.test:18130"],
    ["an IPv6 address in brackets", { SERVER_NAME: "[::1]", SERVER_PORT: "8080" }, "[::1]:8080"],
    ["with its port", { SERVER_NAME: "[::1]:8080", SERVER_PORT: "8080" }, "[::1]:8080"],
    ["one without brackets", { SERVER_NAME: "::1", SERVER_PORT: "8080" }, "[::1]:8080"],
    ["no port", { SERVER_NAME: "b.test" }, "b.test"],
    ["nothing", { SERVER_PORT: "80" }, undefined],
    ["nginx's name for no name", { SERVER_NAME: "_", SERVER_PORT: "8080" }, undefined],
    ["the address, where the name is nginx's for no name", {
      SERVER_NAME: "_",
      SERVER_ADDR: "192.0.2.1",
      SERVER_PORT: "8080"
    }, "192.0.2.1:8080"],
    [
      "the address, where the name is a pattern of nginx's",
      { SERVER_NAME: "~^(www\\.)?a$", SERVER_ADDR: "::1" },
      "[::1]"
    ],
    ["the address, where the name is a wildcard", { SERVER_NAME: "*.a.test", SERVER_ADDR: "[::1]" }, "[::1]"],
    ["the address, where there is no name", { SERVER_NAME: "", SERVER_ADDR: "192.0.2.1" }, "192.0.2.1"],
    ["no address that is a socket's path", { SERVER_NAME: "", SERVER_ADDR: "unix:/run/http.sock" }, undefined]
  ]
  for (const [name, record, host] of hosts) {
    it(`host: ${name}`, () => assert.strictEqual(CgiRequest.host(from(record)), host))
  }

  it("host and the headers agree when the Host header came twice: the first", () => {
    const twice = params(["HTTP_HOST", "a.test"], ["HTTP_HOST", "b.test"])
    assert.strictEqual(CgiRequest.host(twice), "a.test")
    assert.strictEqual(CgiRequest.headers(twice)["host"], "a.test")
  })

  it("the header is that host where the client has sent none, or an empty one", () => {
    const server = { SERVER_NAME: "a.test", SERVER_PORT: "8080" }
    assert.strictEqual(CgiRequest.headers(from(server))["host"], "a.test:8080")
    assert.strictEqual(CgiRequest.headers(from({ ...server, HTTP_HOST: "" }))["host"], "a.test:8080")
    assert.strictEqual(CgiRequest.headers(from({ ...server, HTTPS: "on", SERVER_PORT: "443" }))["host"], "a.test")
    assert.strictEqual(CgiRequest.headers(from({ ...server, HTTP_HOST: "b.test" }))["host"], "b.test")
    assert.notProperty(CgiRequest.headers(from({ SERVER_PORT: "80" })), "host")
    assert.notProperty(CgiRequest.headers(from({ HTTP_HOST: "" })), "host")
  })

  it("originalUrl is absolute where there is a host", () => {
    assert.strictEqual(
      CgiRequest.originalUrl(from({ HTTP_HOST: "a.test", REQUEST_URI: "/x y?z", HTTPS: "on" })),
      "https://a.test/x%20y?z"
    )
    assert.strictEqual(
      CgiRequest.originalUrl(from({ REQUEST_URI: "http://c.test/x", HTTP_HOST: "a.test" })),
      "http://c.test/x"
    )
    assert.strictEqual(CgiRequest.originalUrl(from({ REQUEST_URI: "/x" })), "/x")
    assert.strictEqual(
      CgiRequest.originalUrl(from({ REQUEST_METHOD: "OPTIONS", REQUEST_URI: "*", HTTP_HOST: "a.test" })),
      "*"
    )
  })
})

describe("contentLength", () => {
  const rows: ReadonlyArray<readonly [string, number | undefined]> = [
    ["0", 0],
    ["17", 17],
    ["007", 7],
    ["", undefined],
    ["-1", undefined],
    ["+1", undefined],
    ["1.5", undefined],
    ["1e3", undefined],
    ["0x10", undefined],
    [" 5", undefined],
    ["5,5", undefined],
    ["Infinity", undefined],
    ["9007199254740991", Number.MAX_SAFE_INTEGER],
    ["9007199254740992", undefined],
    ["9".repeat(400), undefined]
  ]
  for (const [text, length] of rows) {
    it(`${text.length > 20 ? "a huge number" : JSON.stringify(text)} is ${length}, and the header agrees`, () => {
      for (const name of ["CONTENT_LENGTH", "HTTP_CONTENT_LENGTH"]) {
        assert.strictEqual(CgiRequest.contentLength(params([name, text])), length)
        assert.strictEqual(headersOf([name, text])["content-length"], length === undefined ? undefined : text)
      }
    })
  }

  it("CONTENT_LENGTH decides over the header, also by being empty", () => {
    for (
      const [own, header, length] of [["5", "7", 5], ["", "7", undefined], ["-1", "7", undefined]] as const
    ) {
      const both = params(["HTTP_CONTENT_LENGTH", header], ["CONTENT_LENGTH", own])
      assert.strictEqual(CgiRequest.contentLength(both), length)
      assert.strictEqual(CgiRequest.headers(both)["content-length"], length === undefined ? undefined : own)
    }
  })

  it("the header alone says nothing beside a Transfer-Encoding", () => {
    const both = params(["HTTP_CONTENT_LENGTH", "7"], ["HTTP_TRANSFER_ENCODING", "chunked"])
    assert.isUndefined(CgiRequest.contentLength(both))
    assert.deepStrictEqual({ ...CgiRequest.headers(both) }, {})
    // The web server has read the whole body and knows better.
    const counted = params(["CONTENT_LENGTH", "171"], ["HTTP_TRANSFER_ENCODING", "chunked"])
    assert.strictEqual(CgiRequest.contentLength(counted), 171)
    assert.deepStrictEqual({ ...CgiRequest.headers(counted) }, { "content-length": "171" })
  })
})

describe("headers", () => {
  it("are HTTP_* in lower case with dashes, and CONTENT_*", () => {
    assert.deepStrictEqual(
      headersOf(
        ["HTTP_X_FORWARDED_FOR", "1.1.1.1"],
        ["HTTP_X.DOT", "dot"],
        ["HTTP_X_EMPTY", ""],
        ["HTTP_X", "a\tb"],
        ["CONTENT_TYPE", "text/plain"],
        ["CONTENT_LENGTH", "3"],
        ["REMOTE_USER", "alice"],
        ["http_lower", "no header"],
        ["HTTPS", "on"],
        ["HTTP2", "on"],
        ["HTTP", "x"],
        ["HTTP_", "x"],
        ["REDIRECT_HTTP_X", "x"]
      ),
      {
        "x-forwarded-for": "1.1.1.1",
        "x.dot": "dot",
        "x-empty": "",
        "x": "a\tb",
        "content-type": "text/plain",
        "content-length": "3"
      }
    )
  })

  it("are not what a short name and its value spell together", () => {
    assert.deepStrictEqual(
      headersOf(["H", "TTP_X_ADMIN"], ["HTTP_", "X_ADMIN"], ["CONTENT", "_TYPE"], ["CONTENT_TYP", "Ex"]),
      {}
    )
  })

  it("have one character per byte, as Node's have", () => {
    assert.strictEqual(headersOf(["HTTP_X", "é€"])["x"], "Ã©â\u0082¬")
    assert.strictEqual(headersOf(["HTTP_X", Uint8Array.of(0xe9)])["x"], "é")
  })

  it("that come twice are joined as Node's http joins them", () => {
    assert.deepStrictEqual(
      headersOf(
        ["HTTP_X_DUP", "one"],
        ["HTTP_COOKIE", "a=1"],
        ["HTTP_X_DUP", ""],
        ["HTTP_COOKIE", "b=2; c=3"],
        ["HTTP_X_DUP", "three"],
        ["HTTP_COOKIE", "d=4"]
      ),
      { "x-dup": "one, , three", "cookie": "a=1; b=2; c=3; d=4" }
    )
  })

  it("of which there can be only one keep the first", () => {
    for (
      const name of [
        "age",
        "authorization",
        "content-length",
        "content-type",
        "etag",
        "expires",
        "from",
        "host",
        "if-modified-since",
        "if-unmodified-since",
        "last-modified",
        "location",
        "max-forwards",
        "proxy-authorization",
        "referer",
        "retry-after",
        "server",
        "user-agent"
      ]
    ) {
      const param = "HTTP_" + name.toUpperCase().replaceAll("-", "_")
      assert.deepStrictEqual(headersOf([param, "1"], [param, "2"]), { [name]: "1" })
    }
  })

  it("Proxy is dropped, or it would become the proxy of CGI programs", () => {
    assert.deepStrictEqual(headersOf(["HTTP_PROXY", "http://evil.test"], ["HTTP_PROXY_CONNECTION", "x"]), {
      "proxy-connection": "x"
    })
  })

  it("Transfer-Encoding is dropped; the others about the client's connection stay", () => {
    assert.deepStrictEqual(
      headersOf(["HTTP_TRANSFER_ENCODING", "chunked"], ["HTTP_CONNECTION", "close"], ["HTTP_TE", "trailers"], [
        "HTTP_EXPECT",
        "100-continue"
      ]),
      { connection: "close", te: "trailers", expect: "100-continue" }
    )
  })

  it("CONTENT_TYPE decides over HTTP_CONTENT_TYPE; empty means absent", () => {
    assert.deepStrictEqual(headersOf(["HTTP_CONTENT_TYPE", "a/b"], ["CONTENT_TYPE", "c/d"]), { "content-type": "c/d" })
    assert.deepStrictEqual(headersOf(["CONTENT_TYPE", "c/d"], ["HTTP_CONTENT_TYPE", "a/b"]), { "content-type": "c/d" })
    assert.deepStrictEqual(headersOf(["HTTP_CONTENT_TYPE", "a/b"], ["CONTENT_TYPE", ""]), {})
    assert.deepStrictEqual(headersOf(["HTTP_CONTENT_TYPE", "a/b"]), { "content-type": "a/b" })
    assert.deepStrictEqual(headersOf(["CONTENT_TYPE", ""], ["CONTENT_LENGTH", ""]), {})
  })

  it("Authorization is also found where Apache's rewrite rules leave it", () => {
    assert.deepStrictEqual(headersOf(["REDIRECT_HTTP_AUTHORIZATION", "Basic x"]), { authorization: "Basic x" })
    assert.deepStrictEqual(headersOf(["REDIRECT_HTTP_AUTHORIZATION", "Basic x"], ["HTTP_AUTHORIZATION", "Basic y"]), {
      authorization: "Basic y"
    })
    assert.deepStrictEqual(headersOf(["HTTP_AUTHORIZATION", ""], ["REDIRECT_HTTP_AUTHORIZATION", "Basic x"]), {
      authorization: "Basic x"
    })
    assert.deepStrictEqual(headersOf(["HTTP_AUTHORIZATION", ""], ["REDIRECT_HTTP_AUTHORIZATION", ""]), {})
  })

  it("a comma in a cookie stays part of it, so that no value becomes another cookie", () => {
    assert.strictEqual(headersOf(["HTTP_COOKIE", "greeting=hello, admin=1"])["cookie"], "greeting=hello, admin=1")
  })

  it("names that are no field names are dropped", () => {
    assert.deepStrictEqual(
      headersOf(["HTTP_X Y", "1"], ["HTTP_X\r\nSET_COOKIE", "1"], ["HTTP_É", "1"], ["HTTP_X:", "1"], ["HTTP_OK", "1"]),
      { ok: "1" }
    )
  })

  it("named like properties of objects are headers and nothing else", () => {
    const headers = CgiRequest.headers(
      params(["HTTP___PROTO__", "x"], ["HTTP_CONSTRUCTOR", "y"], ["HTTP_TOSTRING", "z"], ["HTTP_CONSTRUCTOR", "w"])
    )
    assert.isNull(Object.getPrototypeOf(headers))
    assert.deepStrictEqual(Object.entries(headers), [["--proto--", "x"], ["constructor", "y, w"], ["tostring", "z"]])
    const plain = CgiRequest.headers(params(["HTTP_CONSTRUCTOR", "y"]), Object.prototype)
    assert.deepStrictEqual(plain, { constructor: "y" } as never)
  })

  it("become Effect's Headers by their prototype", () => {
    const prototype = Object.getPrototypeOf(Headers.empty) as object
    const headers = CgiRequest.headers(params(["HTTP_X_A", "1"], ["HTTP_AUTHORIZATION", "s"]), prototype)
    assert.isTrue(Headers.isHeaders(headers))
    assert.isTrue(
      Headers.Equivalence(headers as unknown as Headers.Headers, Headers.fromInput({ "x-a": "1", authorization: "s" }))
    )
  })

  it("are right when more names have come than are remembered, and when they are very long", () => {
    for (let round = 0; round < 2; round++) {
      for (let i = 0; i < 3000; i++) {
        const name = `X_N${i}_${"Y".repeat(i % 90)}`
        assert.deepStrictEqual(headersOf(["HTTP_" + name, String(i)]), {
          [name.toLowerCase().replaceAll("_", "-")]: String(i)
        })
      }
    }
    assert.deepStrictEqual(headersOf(["HTTP_PROXY", "x"], ["HTTP_COOKIE", "a"], ["HTTP_COOKIE", "b"]), {
      cookie: "a; b"
    })
  })
})

describe("variables", () => {
  const full = from({
    SERVER_SOFTWARE: "nginx/1.22.1",
    SERVER_NAME: "example.test",
    SERVER_PORT: "8080",
    SERVER_PROTOCOL: "HTTP/2.0",
    SERVER_ADDR: "[::1]",
    GATEWAY_INTERFACE: "CGI/1.1",
    DOCUMENT_ROOT: "/srv/www",
    SCRIPT_NAME: "/café",
    SCRIPT_FILENAME: "/srv/www/x",
    PATH_INFO: "/p i",
    PATH_TRANSLATED: "/srv/www/p i",
    QUERY_STRING: "a=1",
    REQUEST_URI: "/caf%C3%A9/p%20i?a=1",
    REQUEST_METHOD: "GET",
    REMOTE_ADDR: "[2001:db8::7]",
    REMOTE_PORT: "40000",
    REMOTE_HOST: "client.test",
    REMOTE_USER: "alice",
    REMOTE_IDENT: "al",
    AUTH_TYPE: "Basic",
    HTTPS: "on",
    AUTH_USER: "bob"
  })

  it("say what the web server says", () => {
    const variables = CgiRequest.variables(full)
    assert.deepStrictEqual(
      {
        serverSoftware: variables.serverSoftware,
        serverName: variables.serverName,
        serverPort: variables.serverPort,
        serverProtocol: variables.serverProtocol,
        serverAddress: variables.serverAddress,
        gatewayInterface: variables.gatewayInterface,
        documentRoot: variables.documentRoot,
        scriptName: variables.scriptName,
        scriptFilename: variables.scriptFilename,
        pathInfo: variables.pathInfo,
        pathTranslated: variables.pathTranslated,
        queryString: variables.queryString,
        requestUri: variables.requestUri,
        requestMethod: variables.requestMethod,
        remoteAddress: variables.remoteAddress,
        remotePort: variables.remotePort,
        remoteHost: variables.remoteHost,
        remoteUser: variables.remoteUser,
        remoteIdent: variables.remoteIdent,
        authType: variables.authType,
        scheme: variables.scheme,
        https: variables.https,
        ssl: variables.ssl
      },
      {
        serverSoftware: "nginx/1.22.1",
        serverName: "example.test",
        serverPort: 8080,
        serverProtocol: "HTTP/2.0",
        serverAddress: "::1",
        gatewayInterface: "CGI/1.1",
        documentRoot: "/srv/www",
        scriptName: "/café",
        scriptFilename: "/srv/www/x",
        pathInfo: "/p i",
        pathTranslated: "/srv/www/p i",
        queryString: "a=1",
        requestUri: "/caf%C3%A9/p%20i?a=1",
        requestMethod: "GET",
        remoteAddress: "2001:db8::7",
        remotePort: 40000,
        remoteHost: "client.test",
        remoteUser: "alice",
        remoteIdent: "al",
        authType: "Basic",
        scheme: "https",
        https: true,
        ssl: undefined
      }
    )
    assert.strictEqual(variables.get("AUTH_USER"), "bob")
    assert.strictEqual(variables.params, full)
  })

  it("are absent when they are empty; get tells the difference", () => {
    const variables = CgiRequest.variables(from({ REMOTE_USER: "", AUTH_TYPE: "", PATH_INFO: "", SERVER_PORT: "" }))
    assert.isUndefined(variables.remoteUser)
    assert.isUndefined(variables.authType)
    assert.isUndefined(variables.pathInfo)
    assert.isUndefined(variables.serverPort)
    assert.isUndefined(variables.remoteAddress)
    assert.isUndefined(variables.remotePort)
    assert.isUndefined(variables.serverName)
    assert.strictEqual(variables.get("REMOTE_USER"), "")
    assert.isUndefined(variables.get("REMOTE_IDENT"))
  })

  it("take the port out of HAProxy's SERVER_NAME", () => {
    const variables = CgiRequest.variables(from({ SERVER_NAME: "example.test:18130" }))
    assert.strictEqual(variables.serverName, "example.test")
    assert.strictEqual(variables.serverPort, 18130)
    assert.strictEqual(CgiRequest.variables(from({ SERVER_NAME: "[::1]:81" })).serverName, "[::1]")
    assert.strictEqual(CgiRequest.variables(from({ SERVER_NAME: "[::1]" })).serverName, "[::1]")
    assert.strictEqual(CgiRequest.variables(from({ SERVER_NAME: "::1" })).serverName, "::1")
    assert.isUndefined(CgiRequest.variables(from({ SERVER_NAME: "::1" })).serverPort)
  })

  it("know no port that is none", () => {
    for (const port of ["0", "-1", "65536", "x", "80 ", "1e3"]) {
      assert.isUndefined(CgiRequest.variables(from({ REMOTE_PORT: port })).remotePort, port)
    }
    assert.strictEqual(CgiRequest.variables(from({ REMOTE_PORT: "65535" })).remotePort, 65535)
  })

  it("know no address of a client on a UNIX socket", () => {
    assert.isUndefined(CgiRequest.variables(from({ REMOTE_ADDR: "unix:", REMOTE_PORT: "" })).remoteAddress)
  })

  it("tell about TLS what Apache, nginx and HAProxy configurations tell", () => {
    const pem = "-----BEGIN CERTIFICATE-----\nMIIB+/=\nabc\n-----END CERTIFICATE-----\n"
    const apache = CgiRequest.variables(from({
      HTTPS: "on",
      SSL_PROTOCOL: "TLSv1.3",
      SSL_CIPHER: "TLS_AES_256_GCM_SHA384",
      SSL_TLS_SNI: "example.test",
      SSL_CIPHER_USEKEYSIZE: "256",
      SSL_SERVER_S_DN: "CN=example.test",
      SSL_SERVER_I_DN: "CN=Server CA",
      SSL_CLIENT_VERIFY: "SUCCESS",
      SSL_CLIENT_S_DN: "emailAddress=a@example.test,CN=Ålice",
      SSL_CLIENT_S_DN_CN: "Ålice",
      SSL_CLIENT_S_DN_Email: "a@example.test",
      SSL_CLIENT_I_DN: "CN=CA",
      SSL_CLIENT_M_SERIAL: "0A",
      SSL_CLIENT_V_START: "Nov  4 09:05:00 2026 GMT",
      SSL_CLIENT_V_END: "Nov 14 23:59:59 2027 GMT",
      SSL_CLIENT_CERT: pem
    })).ssl
    assert.deepStrictEqual(apache, {
      protocol: "TLSv1.3",
      cipher: "TLS_AES_256_GCM_SHA384",
      cipherBits: 256,
      serverName: "example.test",
      serverSubject: "CN=example.test",
      serverIssuer: "CN=Server CA",
      clientVerify: "SUCCESS",
      clientVerified: true,
      clientSubject: "emailAddress=a@example.test,CN=Ålice",
      clientCommonName: "Ålice",
      clientEmail: "a@example.test",
      clientIssuer: "CN=CA",
      clientSerial: "0A",
      clientNotBefore: new Date("2026-11-04T09:05:00Z"),
      clientNotAfter: new Date("2027-11-14T23:59:59Z"),
      clientFingerprint: undefined,
      clientCertificate: pem
    })
    const nginx = CgiRequest.variables(from({
      SSL_SERVER_NAME: "example.test",
      VERIFIED: "FAILED:unable to verify",
      SSL_CLIENT_DN: "CN=a",
      SSL_CLIENT_ISSUER_DN: "CN=b",
      SSL_CLIENT_SERIAL: "0B",
      SSL_CLIENT_FINGERPRINT: "da39a3ee5e6b4b0d3255bfef95601890afd80709",
      SSL_CLIENT_V_START: "yesterday",
      SSL_CIPHER_USEKEYSIZE: "many",
      SSL_CLIENT_CERT: pem.trimEnd().replaceAll("\n", "\n\t")
    })).ssl
    assert.deepStrictEqual(nginx, {
      protocol: undefined,
      cipher: undefined,
      cipherBits: undefined,
      serverName: "example.test",
      serverSubject: undefined,
      serverIssuer: undefined,
      clientVerify: "FAILED:unable to verify",
      clientVerified: false,
      clientSubject: "CN=a",
      clientCommonName: undefined,
      clientEmail: undefined,
      clientIssuer: "CN=b",
      clientSerial: "0B",
      clientNotBefore: undefined,
      clientNotAfter: undefined,
      clientFingerprint: "da39a3ee5e6b4b0d3255bfef95601890afd80709",
      clientCertificate: pem.trimEnd()
    })
    const escaped = CgiRequest.variables(from({ SSL_CLIENT_CERT: encodeURIComponent(pem) })).ssl
    assert.strictEqual(escaped?.clientCertificate, pem)
    assert.isFalse(escaped?.clientVerified)
    assert.isUndefined(CgiRequest.variables(from({ HTTPS: "on", SSL_CLIENT_S_DN: "" })).ssl)
  })

  it("never come from what the client says", () => {
    const variables = CgiRequest.variables(from({
      HTTP_REMOTE_USER: "root",
      HTTP_X_REMOTE_USER: "root",
      HTTP_REMOTE_ADDR: "127.0.0.1",
      HTTP_X_FORWARDED_FOR: "127.0.0.1",
      HTTP_X_FORWARDED_PROTO: "https",
      HTTP_SSL_CLIENT_VERIFY: "SUCCESS",
      HTTP_AUTHORIZATION: "Basic cm9vdDpyb290"
    }))
    assert.isUndefined(variables.remoteUser)
    assert.isUndefined(variables.remoteAddress)
    assert.isUndefined(variables.ssl)
    assert.isFalse(variables.https)
  })
})

describe("invalidVariable", () => {
  const invalid = (...entries: ReadonlyArray<readonly [string, string]>) =>
    CgiRequest.invalidVariable(FastCgiParams.fromEntries(entries))
  const names = [
    "REQUEST_METHOD",
    "REQUEST_URI",
    "CONTENT_TYPE",
    "SERVER_NAME",
    "REMOTE_ADDR",
    "REMOTE_USER",
    "REDIRECT_HTTP_AUTHORIZATION",
    "HTTP_HOST",
    "HTTP_X"
  ]

  it("names the variable that holds CR, LF or NUL, wherever it is", () => {
    for (const name of names) {
      for (const bad of ["\r", "\n", "\0", "\r\n"]) {
        for (const value of [bad, `a${bad}`, `${bad}b`, `a${bad}b`]) {
          assert.strictEqual(invalid([name, value]), name)
          assert.strictEqual(
            invalid(["SERVER_SOFTWARE", ""], ["QUERY_STRING", "a"], [name, value], ["HTTP_Z", ""]),
            name
          )
        }
      }
    }
  })

  it("takes no length of a pair for a part of a value", () => {
    // Names and values of 0, 10 and 13 bytes, and of 256 times as many, whose lengths have those bytes.
    for (const length of [0, 10, 13, 2560, 3328, 256]) {
      for (const other of [0, 10, 13, 2560, 3328, 256]) {
        const name = length < 5 ? "" : "HTTP_".padEnd(length, "X")
        assert.isUndefined(invalid([name, "v".repeat(other)], ["HTTP_A", ""], [name, "v".repeat(other)]))
      }
    }
  })

  it("names it in a way that a log can print", () => {
    assert.strictEqual(invalid(["HTTP_X\nY", "a\n"]), "HTTP_X%0AY")
  })

  it("leaves alone what may hold any byte", () => {
    for (const name of ["SCRIPT_NAME", "PATH_INFO", "PATH_TRANSLATED", "SSL_CLIENT_CERT", "PHP_VALUE", "X\nY"]) {
      assert.isUndefined(invalid(["HTTP_A", "a"], [name, "a\r\n\0b"], ["HTTP_B", "b\t\x01\x7f\xff"]))
    }
  })
})
