/**
 * The status page behind nginx as docs/monitoring.md has it, and its OpenMetrics as Prometheus reads them.
 */
import { assert, it } from "@effect/vitest"
import { NodeFastCgi, NodeFastCgiStatus } from "effect-fastcgi/node"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Metric from "effect/Metric"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { projectRoot } from "../support/files.ts"
import { describeWith } from "../support/requirement.ts"
import * as WebServers from "../support/webServers.ts"
import { request } from "./support/http.ts"
import * as Nginx from "./support/nginx.ts"

const page = Fs.readFileSync(Path.join(projectRoot, "docs/monitoring.md"), "utf8")

/** The samples in a text of OpenMetrics, by the parser of Prometheus' own client library, which is strict. */
const parse = (text: string): Readonly<Record<string, number>> =>
  JSON.parse(ChildProcess.execFileSync("/usr/bin/python3", [
    "-c",
    "import json, sys\n" +
    "from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse\n" +
    "samples = [sample for family in parse(sys.stdin.read()) for sample in family.samples]\n" +
    "print(json.dumps({s.name + ('/' + s.labels['limit'] if 'limit' in s.labels else ''): s.value for s in samples}))"
  ], { input: text, encoding: "utf8" })) as Readonly<Record<string, number>>

const app = (socket: string) =>
  HttpRouter.serve(
    Layer.mergeAll(
      HttpRouter.add("GET", "/*", HttpServerResponse.text("the app")),
      HttpRouter.add("GET", "/fail", Effect.die("no"))
    ),
    { disableLogger: true }
  ).pipe(
    Layer.provide(NodeFastCgi.layer({ path: socket, mode: 0o666, maxRequests: 1024 })),
    Layer.provide(NodeFastCgiStatus.layer({ path: "/status", pingPath: "/ping", pool: "a \"pool\"\\" })),
    Layer.provide(Logger.layer([])),
    Layer.provide(Layer.succeed(Metric.MetricRegistry, new Map()))
  )

describeWith(["nginx", "python3"], "the status page behind nginx", (nginx) => {
  it.live("counts what was done, in the words of Prometheus, and is not for visitors", () =>
    Effect.gen(function*() {
      const folder = yield* WebServers.temporaryDirectory
      const socket = Path.join(folder, "app.sock")
      yield* Layer.build(app(socket))
      const port = yield* WebServers.freePort
      const block = WebServers.fill(WebServers.documented(page, "nginx", "the status page"), [
        ["listen 80;", `listen 127.0.0.1:${port};`],
        ["unix:/run/app/app.sock", `unix:${socket}`],
        ["include fastcgi_params;", "include /etc/nginx/fastcgi_params;"]
      ])
      yield* Nginx.start(nginx!, folder, [block], [port])
      for (let i = 0; i < 20; i++) assert.strictEqual((yield* request(port, "/")).status, 200)
      for (let i = 0; i < 3; i++) assert.strictEqual((yield* request(port, "/fail")).status, 500)
      const metrics = yield* request(port, "/status?openmetrics")
      assert.strictEqual(
        metrics.headers["content-type"],
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
      )
      const samples = parse(metrics.body.toString())
      assert.strictEqual(samples["fastcgi_requests_total"], 23)
      assert.strictEqual(samples["phpfpm_accepted_connections"], 23)
      assert.strictEqual(samples["fastcgi_requests_failed_total"], 3)
      // A connection a request, this one included.
      assert.strictEqual(samples["fastcgi_connections_accepted_total"], 24)
      assert.strictEqual(samples["fastcgi_connections"], 1)
      assert.strictEqual(samples["fastcgi_requests_open"], 0)
      // The ping has no location of its own: nginx passes everything on, and its clients are of this host.
      assert.strictEqual((yield* request(port, "/ping")).body.toString(), "pong")
      const visitor = yield* request(port, "/ping", { headers: { "X-Forwarded-For": "203.0.113.7" } })
      assert.strictEqual(visitor.body.toString(), "the app")
    }))
})
