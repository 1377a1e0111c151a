/**
 * URL tricks against the PHP front, and against nginx with the configuration that its own pages recommend for PHP, on the same tree
 * with the same php-fpm: nothing runs or is shown that nginx would not run or show.
 */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { assert, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import { createServer } from "node:http"
import { isDeepStrictEqual } from "node:util"
import * as FastCgiGateway from "../../src/client/FastCgiGateway.ts"
import * as PhpFpm from "../client/phpFpm.ts"
import * as Nginx from "../servers/support/nginx.ts"
import { describeWith } from "../support/requirement.ts"
import { freePort } from "../support/webServers.ts"
import { type Answer, raw } from "./raw.ts"
import * as Tree from "./tree.ts"
import { tricks } from "./tricks.ts"

/** What an answer does: run a script, show something, lead elsewhere, or refuse. */
type Effects =
  | { readonly _tag: "Ran"; readonly what: { readonly script: string; readonly uri: string } }
  | { readonly _tag: "Shown"; readonly body: string }
  | { readonly _tag: "Redirect"; readonly path: string }
  | { readonly _tag: "Refused" }

const effectsOf = ({ body, headers, status }: Answer): Effects => {
  if (status === 301 || status === 302) {
    return { _tag: "Redirect", path: headers["location"]!.replace(/^http:\/\/[^/]*/, "") }
  }
  if (status !== 200) return { _tag: "Refused" }
  return body.startsWith(`{"ran":`) ? { _tag: "Ran", what: JSON.parse(body) } : { _tag: "Shown", body }
}

const scriptOf = (effects: Effects): string | undefined => effects._tag === "Ran" ? effects.what.script : undefined

// nginx.com, "PHP FastCGI Example", with the rules for hidden files and uploads of its WordPress page, in the order of that page.
const nginxSite = (port: number, root: string, socket: string, fallback: string) => `
server {
  listen 127.0.0.1:${port};
  root ${root};
  index index.php index.html;
  location ~ /\\.(?!well-known) { deny all; }
  location ~* ^/data(/|$) { return 404; }
  location ~* /(?:uploads|files)/.*\\.php(/|$) { deny all; }
  location / { try_files $uri $uri/ ${fallback}; }
  location ~ [^/]\\.php(/|$) {
    fastcgi_split_path_info ^(.+?\\.php)(/.*)$;
    if (!-f $document_root$fastcgi_script_name) { return 404; }
    fastcgi_param HTTP_PROXY "";
    fastcgi_pass unix:${socket};
    fastcgi_index index.php;
    include /etc/nginx/fastcgi_params;
    fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name;
    fastcgi_param PATH_INFO $fastcgi_path_info;
  }
}`

interface Ports {
  readonly nginx: number
  readonly front: number
}

class Sites extends Context.Service<Sites, {
  readonly frontController: Ports
  readonly plain: Ports
  readonly prefix: number
}>()("test/Sites") {}

describeWith(["nginx", "php-fpm8.2"], "URL tricks", (nginx, phpFpm) => {
  const sites = Effect.gen(function*() {
    const php = yield* PhpFpm.start(phpFpm!)
    const root = Tree.make(php.folder)
    const ports = [yield* freePort, yield* freePort] as const
    yield* Nginx.start(
      nginx!,
      php.folder,
      [
        nginxSite(ports[0], root, php.socket, "/index.php?$args"),
        nginxSite(ports[1], root, php.socket, "=404")
      ],
      ports
    )
    const options = { connect: php.connect, root, deny: ["/data"], noScripts: ["/uploads"] }
    const serve = <E, R>(app: Layer.Layer<never, E, R>) =>
      Effect.gen(function*() {
        const context = yield* Layer.build(
          Layer.provideMerge(app, NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: 0 }))
        )
        const { address } = Context.get(context, HttpServer.HttpServer)
        assert.ok("port" in address)
        return address.port
      })
    const app = (frontController: string | undefined) =>
      serve(
        Layer.unwrap(Effect.map(FastCgiGateway.php({ ...options, frontController }), (app) => HttpServer.serve(app)))
      )
    return {
      frontController: { nginx: ports[0], front: yield* app("/index.php") },
      plain: { nginx: ports[1], front: yield* app(undefined) },
      prefix: yield* serve(HttpRouter.serve(
        FastCgiGateway.layerPhp({ ...options, frontController: "/index.php", prefix: "/a/wiki" }),
        { disableLogger: true, disableListenLog: true }
      ))
    }
  })

  it.layer(Layer.effect(Sites, sites).pipe(Layer.provideMerge(Logger.layer([]))), { excludeTestServices: true })(
    (it) => {
      it.effect("are at least 40", () =>
        Effect.sync(() => {
          assert.isAbove(new Set(tricks.map(({ target }) => target)).size, 150)
        }))

      for (const kind of ["frontController", "plain"] as const) {
        it.effect(`run and show what they do with nginx, or less, ${kind}`, () =>
          Effect.gen(function*() {
            const { [kind]: ports } = yield* Sites
            const wrong: Array<unknown> = []
            const missing = scriptOf(effectsOf(yield* raw(ports.front, "/missing")))
            for (const { stricter, target } of tricks) {
              const theirs = effectsOf(yield* raw(ports.nginx, target))
              const ours = effectsOf(yield* raw(ports.front, target))
              const right = stricter === undefined
                ? isDeepStrictEqual(ours, theirs)
                : ours._tag === "Refused" || (missing !== undefined && scriptOf(ours) === missing)
              if (!right) wrong.push({ target, ours, theirs })
            }
            assert.strictEqual(wrong.map((one) => JSON.stringify(one, undefined, 1)).join("\n"), "")
          }))
      }

      it.effect("do the same below a prefix, and lead out of it no more than out of the root", () =>
        Effect.gen(function*() {
          const { frontController: { front }, prefix } = yield* Sites
          const at = "/a/wiki"
          const uri = (text: string) => Buffer.from(text, "latin1").toString("hex")
          const wrong: Array<unknown> = []
          for (const { target } of tricks) {
            if (!target.startsWith("/")) continue
            const root = effectsOf(yield* raw(front, target))
            const below = effectsOf(yield* raw(prefix, at + target))
            const right: Effects = root._tag === "Redirect"
              ? { _tag: "Redirect", path: at + root.path }
              : root._tag === "Ran"
              ? { _tag: "Ran", what: { ...root.what, script: at + root.what.script, uri: uri(at) + root.what.uri } }
              : root
            // Effect's router has 404 for what is no UTF-8.
            const isText = Option.isSome(Option.liftThrowable(decodeURIComponent)(target))
            if (!isDeepStrictEqual(below, isText ? right : { _tag: "Refused" })) wrong.push({ target, below, right })
          }
          assert.strictEqual(wrong.map((one) => JSON.stringify(one, undefined, 1)).join("\n"), "")
          assert.deepStrictEqual(effectsOf(yield* raw(prefix, at)), { _tag: "Redirect", path: `${at}/` })
          assert.deepStrictEqual(effectsOf(yield* raw(prefix, `${at}?q=1`)), { _tag: "Redirect", path: `${at}/?q=1` })
          for (
            const target of [
              `${at}x/x.php`,
              `${at}x.php`,
              `${at}/../x.php`,
              `${at}/..%2fx.php`,
              "/x.php",
              `${at}%00/x.php`
            ]
          ) {
            assert.deepStrictEqual(effectsOf(yield* raw(prefix, target)), { _tag: "Refused" }, target)
          }
          const long = `/x.php/${"info/".repeat(100)}`
          assert.strictEqual(scriptOf(effectsOf(yield* raw(prefix, at + long))), `${at}/x.php`)
        }))
    }
  )
})
