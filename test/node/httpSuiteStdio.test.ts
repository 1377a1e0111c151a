/**
 * The shared HTTP suite over standard input and output, and pairs of pipes like them: a server in a child process, which forwards to the
 * app of each case.
 */
import { afterAll } from "@effect/vitest"
import { FastCgiHttpClient } from "effect-fastcgi/client"
import { NodeFastCgi } from "effect-fastcgi/node"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { type ShutdownOptions, suite } from "../http/suite.ts"
import { connector } from "../support/stdio.ts"

const folder = Fs.mkdtempSync(Path.join(Os.tmpdir(), "fastcgi-stdio-"))
const path = Path.join(folder, "app.sock")
const scope = Scope.makeUnsafe()
const full = process.env.FULL !== undefined
const connect = Effect.runSync(
  Scope.provide(connector({ serve: ["forward", path], connections: full ? 1 : 400 }), scope)
)

afterAll(async () => {
  await Effect.runPromise(Scope.close(scope, Exit.void))
  Fs.rmSync(folder, { recursive: true })
})

const overStdio = (options: ShutdownOptions) =>
  Layer.effect(
    HttpClient.HttpClient,
    Effect.map(
      FastCgiHttpClient.make({ connect, keepConnection: true }),
      HttpClient.mapRequest(HttpClientRequest.prependUrl("http://localhost"))
    )
  ).pipe(Layer.provideMerge(NodeFastCgi.layer({ path, ...options })), Layer.provideMerge(NodeFastCgi.layerServices))

suite("over the standard input and output of a child", overStdio({}), {
  layerWith: overStdio,
  pathsOutRefused: "FastCgiHttpClient sends no such path"
})
