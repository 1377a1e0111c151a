/**
 * What the requests that real web servers sent are to an application. The expectations are written by hand, from what the
 * client had sent and from what each server is known to do with it.
 */
import { assert, describe, it } from "@effect/vitest"
import { CgiRequest, FastCgiParams } from "effect-fastcgi"
import { paramsOf, vectors } from "../vectors/vectors.ts"

type Headers = Readonly<Record<string, string>>

interface Expected {
  readonly method: string
  readonly url: string
  readonly originalUrl?: string
  readonly headers: Headers
  readonly contentLength?: number
}

const only = (file: string): FastCgiParams.FastCgiParams => {
  const requests = paramsOf(`${file}.bin`)
  assert.strictEqual(requests.length, 1)
  return requests[0]
}

const check = (file: string, expected: Expected): void => {
  const params = only(file)
  assert.strictEqual(CgiRequest.method(params), expected.method)
  assert.strictEqual(CgiRequest.url(params), expected.url)
  assert.strictEqual(CgiRequest.originalUrl(params), expected.originalUrl ?? `http://example.test${expected.url}`)
  assert.deepStrictEqual({ ...CgiRequest.headers(params) }, { ...expected.headers })
  assert.strictEqual(CgiRequest.contentLength(params), expected.contentLength)
}

const servers = ["nginx", "lighttpd", "apache", "fcgid", "haproxy", "caddy"] as const
type Server = typeof servers[number]

// What every server adds or leaves out beside what the client sent: `Host: example.test` and `Connection: close`.
const usual: Readonly<Record<Server, Headers>> = {
  nginx: { host: "example.test", connection: "close" },
  lighttpd: { host: "example.test", connection: "close" },
  apache: { host: "example.test", connection: "close" },
  fcgid: { host: "example.test", connection: "close" },
  // Connection is not passed on.
  haproxy: { host: "example.test" },
  // It comes as a proxy: without Connection, with X-Forwarded-*, and with an empty User-Agent where there was none.
  caddy: {
    host: "example.test",
    "user-agent": "",
    "x-forwarded-for": "127.0.0.1",
    "x-forwarded-host": "example.test",
    "x-forwarded-proto": "http"
  }
}

// CONTENT_LENGTH of a request without a body: empty, "0" or not there.
const noBody: Readonly<Record<Server, { readonly headers: Headers; readonly contentLength?: number }>> = {
  nginx: { headers: {} },
  lighttpd: { headers: { "content-length": "0" }, contentLength: 0 },
  apache: { headers: {} },
  fcgid: { headers: { "content-length": "0" }, contentLength: 0 },
  haproxy: { headers: { "content-length": "0" }, contentLength: 0 },
  caddy: { headers: { "content-length": "0" }, contentLength: 0 }
}

const withoutBody = (server: Server, headers: Headers = {}) => ({
  ...noBody[server],
  headers: { ...usual[server], ...noBody[server].headers, ...headers }
})

describe("GET", () => {
  for (const server of servers) {
    it(server, () => check(`${server}-get`, { method: "GET", url: "/app/x/y?v=ok&a=1", ...withoutBody(server) }))
  }
  it("cgi-fcgi, where whoever calls it says what there is", () => {
    check("cgi-fcgi-get", { method: "GET", url: "/x", originalUrl: "/x", headers: {} })
  })
  for (const server of servers) {
    it(`${server}, without a query`, () =>
      check(`${server}-query-none`, { method: "GET", url: "/app/x", ...withoutBody(server) }))
  }
})

describe("HEAD", () => {
  for (const server of servers) {
    it(server, () => check(`${server}-head`, { method: "HEAD", url: "/app/x?v=ok", ...withoutBody(server) }))
  }
})

describe("POST", () => {
  for (const server of servers) {
    it(server, () =>
      check(`${server}-post-small`, {
        method: "POST",
        url: "/app/post?v=ok",
        headers: {
          ...usual[server],
          "content-type": "application/x-www-form-urlencoded",
          "content-length": "17"
        },
        contentLength: 17
      }))
    it(`${server}, with an empty body`, () =>
      check(`${server}-post-empty`, {
        method: "POST",
        url: "/app/post?v=ok",
        headers: { ...usual[server], "content-type": "text/plain", "content-length": "0" },
        contentLength: 0
      }))
  }

  it("a megabyte", () => {
    for (const server of servers) {
      const params = only(`${server}-post-1m`)
      assert.strictEqual(CgiRequest.contentLength(params), 1024 * 1024)
      assert.strictEqual(CgiRequest.headers(params)["content-length"], "1048576")
    }
  })

  it("two on one connection are two requests", () => {
    const requests = paramsOf("nginx-keep-twopost.bin")
    assert.deepStrictEqual(requests.map((params) => CgiRequest.url(params)), ["/keep/r0?v=ok", "/keep/r1?v=ok"])
  })

  it("cgi-fcgi", () => {
    check("cgi-fcgi-post", {
      method: "POST",
      url: "/x",
      originalUrl: "/x",
      headers: { "content-type": "application/x-www-form-urlencoded", "content-length": "10" },
      contentLength: 10
    })
  })
})

describe("a chunked body", () => {
  const counted = [
    "nginx-post-chunked",
    "lighttpd-post-chunked",
    "lighttpd-post-chunked-unbuf",
    "apache-post-chunked",
    "apache-post-chunked-unbuf",
    "fcgid-post-chunked",
    "haproxy-post-chunked"
  ]
  for (const file of counted) {
    it(`${file}: the server has counted it`, () => {
      const params = only(file)
      assert.strictEqual(CgiRequest.contentLength(params), 171)
      assert.strictEqual(CgiRequest.headers(params)["content-length"], "171")
      assert.isFalse("transfer-encoding" in CgiRequest.headers(params))
    })
  }
  const unknown = [
    "nginx-post-chunked-unbuf",
    "nginx-post-slow-chunked-unbuf",
    "apache-post-slow-chunked-unbuf",
    "caddy-post-chunked",
    "caddy-post-chunked-unbuf",
    "caddy-post-slow-chunked-unbuf"
  ]
  for (const file of unknown) {
    it(`${file}: its length is not known, and its encoding is none of the application's business`, () => {
      const params = only(file)
      assert.isUndefined(CgiRequest.contentLength(params))
      const headers = CgiRequest.headers(params)
      assert.isFalse("content-length" in headers)
      assert.isFalse("transfer-encoding" in headers)
      assert.strictEqual(headers["content-type"], "text/plain")
    })
  }
})

describe("odd paths", () => {
  const unicode = "/app/caf%C3%A9/%E2%82%AC%20sp+plus%2Bpct/a;b=c/@:~?v=ok&q=%C3%A9+%20"
  const decoded = "/app/café/€ sp+plus+pct/a;b=c/@:~"
  for (const server of servers) {
    it(`${server}: encoded UTF-8, space, plus, semicolon`, () => {
      check(`${server}-path-unicode`, { method: "GET", url: unicode, ...withoutBody(server) })
      const variables = CgiRequest.variables(only(`${server}-path-unicode`))
      assert.strictEqual((variables.scriptName ?? "") + (variables.pathInfo ?? ""), decoded)
      assert.strictEqual(variables.queryString, "v=ok&q=%C3%A9+%20")
    })
  }

  for (const server of ["nginx", "lighttpd", "apache", "haproxy", "caddy"] as const) {
    it(`${server}: encoded slashes stay encoded, in the case the client chose`, () =>
      check(`${server}-path-encslash`, { method: "GET", url: "/app/a%2Fb%2fc?v=ok&x=%2F", ...withoutBody(server) }))
  }

  it("without REQUEST_URI the decoded path is encoded again; that %2B had been a plus can not be seen", () => {
    for (const server of servers) {
      const rest = FastCgiParams.fromEntries(
        [...only(`${server}-path-unicode`)].filter(([name]) => name !== "REQUEST_URI")
      )
      assert.strictEqual(
        CgiRequest.url(rest),
        "/app/caf%C3%A9/%E2%82%AC%20sp+plus+pct/a;b=c/@:~?v=ok&q=%C3%A9+%20",
        server
      )
    }
  })

  it("caddy, which strips a prefix: REQUEST_URI still has it", () => {
    const params = only("caddy-cfg-strip")
    assert.strictEqual(CgiRequest.url(params), "/strip/a%20b?v=ok")
    assert.strictEqual(CgiRequest.url(params, { basePath: "/strip" }), "/a%20b?v=ok")
    assert.strictEqual(CgiRequest.variables(params).pathInfo, "/a b")
    assert.strictEqual(CgiRequest.variables(params).get("EXTRA_PARAM"), "yes")
  })

  it("below a path, whatever the server puts into SCRIPT_NAME and PATH_INFO", () => {
    for (const server of servers) {
      const params = only(`${server}-get`)
      const rest = FastCgiParams.fromEntries([...params].filter(([name]) => name !== "REQUEST_URI"))
      for (const entries of [params, rest]) {
        assert.strictEqual(CgiRequest.url(entries, { basePath: "/app" }), "/x/y?v=ok&a=1", server)
        assert.strictEqual(CgiRequest.url(entries, { basePath: "/app/x/y" }), "/?v=ok&a=1", server)
        assert.strictEqual(CgiRequest.url(entries, { basePath: "/ap" }), "/app/x/y?v=ok&a=1", server)
      }
      assert.strictEqual(CgiRequest.originalUrl(params), "http://example.test/app/x/y?v=ok&a=1")
      const odd = only(`${server}-path-unicode`)
      assert.strictEqual(
        CgiRequest.url(odd, { basePath: "/app/café" }),
        "/%E2%82%AC%20sp+plus%2Bpct/a;b=c/@:~?v=ok&q=%C3%A9+%20",
        server
      )
    }
  })

  it("a script in the path", () => {
    const rows = [
      ["caddy-cfg-split", "/split/app.fcgi/pa%20th?v=ok&x=1", "/split/app.fcgi", "/pa th"],
      ["caddy-cfg-phpindex", "/php/index.php/pa%20th?v=ok", "/php/index.php", "/pa th"],
      ["apache-cfg-handler", "/app.fcgi/pa%20th?v=ok&x=1", "/app.fcgi", "/pa th"],
      // ProxyFCGISetEnvIf got PATH_INFO wrong; the URL does not suffer.
      ["apache-cfg-setenv", "/setenv/x?v=ok", "/setenv", "/setenv"]
    ] as const
    for (const [file, url, scriptName, pathInfo] of rows) {
      const params = only(file)
      assert.strictEqual(CgiRequest.url(params), url)
      assert.strictEqual(CgiRequest.variables(params).scriptName, scriptName)
      assert.strictEqual(CgiRequest.variables(params).pathInfo, pathInfo)
    }
  })

  it("a query of 70,000 bytes", () => {
    const url = CgiRequest.url(only("caddy-query-70k"))
    assert.isAbove(url.length, 60_000)
    assert.match(url, /^\/app\/x\?/)
  })
})

describe("headers", () => {
  // `X-Dup: one`, `X-Dup: two`, two Accept, `Cookie: a=1`, `Cookie: b=2`, two X-Forwarded-For.
  for (const server of servers) {
    it(`${server}: each twice`, () => {
      const joinsCookiesByComma = server === "apache" || server === "fcgid" || server === "caddy"
      check(`${server}-hdr-dup`, {
        method: "GET",
        url: "/app/x?v=ok",
        ...withoutBody(server, {
          "x-dup": "one, two",
          accept: "a/b, c/d",
          cookie: joinsCookiesByComma ? "a=1, b=2" : "a=1; b=2",
          // Caddy believes nobody and starts the list anew.
          "x-forwarded-for": server === "caddy" ? "127.0.0.1" : "1.1.1.1, 2.2.2.2"
        })
      })
    })
  }

  const misc: Headers = {
    "user-agent": "lab/1",
    accept: "*/*",
    "x-dash-name": "d",
    "x-lower": "l",
    "x-empty": "",
    "x-tab": "a\tb",
    "x-spaces": "pad",
    referer: "http://r.test/",
    "x-digit9": "9",
    "accept-encoding": "gzip, br",
    "x-quote": "\"q\\\""
  }
  for (const server of servers) {
    it(`${server}: odd names and values`, () => {
      const { "x-empty": empty, ...others } = misc
      const expected: Headers = server === "lighttpd"
        // Drops empty ones, makes a dash of a dot, and lets an underscore through.
        ? { ...others, "x-under-score": "u", "x-dot": "dot" }
        : server === "caddy"
        // Lets the underscore through, and keeps the dot.
        ? { ...misc, "x-under-score": "u", "x.dot": "dot" }
        : misc
      check(`${server}-hdr-misc`, { method: "GET", url: "/app/x?v=ok", ...withoutBody(server, expected) })
      assert.strictEqual(empty, "")
    })
  }

  it("Authorization and what the servers make of it", () => {
    const basic = "Basic YWxpY2U6c2VjcmV0"
    const rows: ReadonlyArray<readonly [Server, header: string | undefined, user: string | undefined]> = [
      // Takes the user from the header, without a look at the password.
      ["nginx", basic, "alice"],
      ["lighttpd", basic, undefined],
      ["apache", undefined, undefined],
      ["fcgid", basic, undefined],
      // Keeps the header to itself and says who it was.
      ["haproxy", undefined, "alice"],
      ["caddy", basic, undefined]
    ]
    for (const [server, header, user] of rows) {
      const params = only(`${server}-hdr-auth`)
      assert.strictEqual(CgiRequest.headers(params)["authorization"], header, server)
      assert.strictEqual(CgiRequest.variables(params).remoteUser, user, server)
    }
    assert.strictEqual(CgiRequest.variables(only("haproxy-hdr-auth")).authType, "Basic")
  })

  it("2818 bytes of cookies, and headers of 30 and 90 KB, arrive whole", () => {
    for (const server of servers) {
      assert.strictEqual(CgiRequest.headers(only(`${server}-hdr-cookies`))["cookie"].length, 2818, server)
    }
    for (const server of ["nginx", "lighttpd", "apache", "fcgid", "caddy"]) {
      const headers = CgiRequest.headers(only(`${server}-hdr-big30k`))
      assert.strictEqual(headers["x-big-0"].length, 7500, server)
      assert.strictEqual(headers["x-big-3"].length, 7500, server)
    }
    assert.strictEqual(CgiRequest.headers(only("apache-hdr-big90k"))["x-big-11"].length, 7500)
  })

  it("names longer than a byte can count", () => {
    for (const server of servers) {
      const names = Object.keys(CgiRequest.headers(only(`${server}-hdr-name-long`)))
      assert.isTrue(names.some((name) => name.length > 127), server)
      assert.isTrue(names.every((name) => /^[a-z0-9-]+$/.test(name)), server)
    }
  })
})

describe("HTTPS and HTTP/2", () => {
  const ports: ReadonlyArray<readonly [Server, port: number, serverName: string]> = [
    ["nginx", 18101, "example.test"],
    ["lighttpd", 18110, "example.test"],
    ["apache", 18120, "example.test"],
    // SERVER_NAME is "example.test:18130" there, and there is no REQUEST_SCHEME.
    ["haproxy", 18130, "example.test"],
    ["caddy", 18140, "example.test"]
  ]
  for (const [server, port, serverName] of ports) {
    it(server, () => {
      const params = only(`${server}-https-http2`)
      assert.strictEqual(CgiRequest.scheme(params), "https")
      assert.strictEqual(CgiRequest.host(params), `example.test:${port}`)
      assert.strictEqual(CgiRequest.originalUrl(params), `https://example.test:${port}/app/x?v=ok`)
      // HTTP/2 clients send a field per cookie.
      assert.strictEqual(CgiRequest.headers(params)["cookie"], "a=1; b=2")
      const variables = CgiRequest.variables(params)
      assert.strictEqual(variables.serverName, serverName)
      assert.strictEqual(variables.serverPort, port)
      assert.strictEqual(variables.serverProtocol, "HTTP/2.0")
      assert.isTrue(variables.https)
    })
  }

  it("what they say about TLS", () => {
    const protocolOf = (server: Server) => CgiRequest.variables(only(`${server}-https-http2`)).ssl?.protocol
    assert.strictEqual(protocolOf("lighttpd"), "TLSv1.3")
    assert.strictEqual(protocolOf("caddy"), "TLSv1.3")
    assert.isUndefined(protocolOf("nginx"))
    assert.isUndefined(protocolOf("haproxy"))
    assert.strictEqual(CgiRequest.variables(only("apache-https-http2")).ssl?.serverName, "example.test")
    assert.strictEqual(
      CgiRequest.variables(only("lighttpd-https-http2")).ssl?.cipher,
      "TLS_AES_256_GCM_SHA384"
    )
  })
})

describe("addresses", () => {
  it("of the client and of the server", () => {
    const rows: ReadonlyArray<
      readonly [Server, software: RegExp, remotePort: number, serverAddress: string | undefined]
    > = [
      ["nginx", /^nginx\/1\.22\.1$/, 54712, "127.0.0.1"],
      ["lighttpd", /^lighttpd\/1\.4\.69$/, 41144, "127.0.0.1"],
      ["apache", /^Apache\/2\.4\.71/, 41126, "127.0.0.1"],
      ["fcgid", /mod_fcgid\/2\.3\.9$/, 36840, "127.0.0.1"],
      ["haproxy", /^HAProxy 2\.6\.12/, 47152, undefined],
      ["caddy", /^Caddy\/2\.6\.2$/, 50588, undefined]
    ]
    for (const [server, software, remotePort, serverAddress] of rows) {
      const variables = CgiRequest.variables(only(`${server}-get`))
      assert.match(variables.serverSoftware ?? "", software)
      assert.strictEqual(variables.remoteAddress, "127.0.0.1")
      assert.strictEqual(variables.remotePort, remotePort)
      assert.strictEqual(variables.serverAddress, serverAddress)
      assert.strictEqual(variables.documentRoot, "/srv/www")
      assert.strictEqual(variables.gatewayInterface, "CGI/1.1")
      assert.isUndefined(variables.remoteUser, "nginx and Caddy send an empty one")
    }
  })

  it("of HAProxy's health check are none", () => {
    const variables = CgiRequest.variables(only("haproxy-healthcheck"))
    assert.isUndefined(variables.remoteAddress)
    assert.isUndefined(variables.remotePort)
    assert.strictEqual(CgiRequest.url(only("haproxy-healthcheck")), "/check/health?v=ok")
  })
})

describe("authorizers and those behind them", () => {
  it("are asked about the request of the client", () => {
    assert.strictEqual(CgiRequest.url(only("lighttpd-auth-ok")), "/secret/file.txt?v=ok")
    const apache = CgiRequest.variables(only("apache-auth-authnz"))
    assert.strictEqual(apache.remoteUser, "alice")
    assert.strictEqual(apache.authType, "Basic")
    assert.strictEqual(apache.get("REMOTE_PASSWD"), "secret")
    // auth_request and forward_auth are ordinary requests about another one.
    assert.strictEqual(CgiRequest.url(only("nginx-auth-request")), "/authed/x?v=ok")
    assert.strictEqual(CgiRequest.headers(only("caddy-cfg-fwdauth"))["x-forwarded-uri"], "/fwdauth/x?v=ok")
  })

  it("get the authorizer's variables as params", () => {
    const variables = CgiRequest.variables(only("lighttpd-auth-both-2"))
    assert.strictEqual(variables.get("AUTH_USER"), "alice")
    assert.isUndefined(variables.remoteUser)
  })
})

describe("the URL from the script", () => {
  // What the web server was told to change: the path of what it asks, or a variable.
  const changed: Readonly<Record<string, string>> = {
    "apache-cfg-setenv.bin": "/setenv?v=ok",
    "caddy-cfg-fwdauth.bin": "/auth?v=ok",
    "caddy-cfg-strip.bin": "/a%20b?v=ok",
    "nginx-auth-request.bin": "/authed/x"
  }

  it("is that of the request in every recorded request that a web server has not changed", () => {
    let seen = 0
    for (const { file } of vectors) {
      // cgi-fcgi sends what the shell has set, and Caddy cuts long values, QUERY_STRING sooner than REQUEST_URI.
      if (file.startsWith("cgi-fcgi-") || file === "caddy-query-70k.bin") continue
      for (const params of paramsOf(file)) {
        const url = CgiRequest.url(params, { from: "script" })
        assert.strictEqual(url, changed[file] ?? CgiRequest.url(params), file)
        seen++
      }
    }
    assert.isAbove(seen, 200)
  })
})
