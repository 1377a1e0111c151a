/**
 * A pool in front of applications other than php-fpm: fcgiwrap, a C program with libfcgi, Go's net/http/fcgi, and our own server.
 * Each has two processes on one socket, which multiwatch starts again when they die.
 */
import { assert, it } from "@effect/vitest"
import { FastCgiClientError, FastCgiHttpClient } from "effect-fastcgi/client"
import { NodeFastCgiConnector } from "effect-fastcgi/node"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as HttpBody from "effect/http/HttpBody"
import type * as HttpClient from "effect/http/HttpClient"
import type * as HttpClientError from "effect/http/HttpClientError"
import { execFileSync } from "node:child_process"
import * as Fs from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { describeWith } from "../support/requirement.ts"
import * as WebServers from "../support/webServers.ts"
import { within } from "../support/within.ts"

const full = process.env["FULL"] === "1"

const fixture = (name: string) => join(import.meta.dirname, "fixtures", name)

const range = (n: number): ReadonlyArray<number> => Array.from({ length: n }, (_, i) => i)

interface Kind {
  readonly name: string
  readonly needs: ReadonlyArray<string>
  /** The command that serves on file descriptor 0. */
  readonly command: (folder: string, paths: ReadonlyArray<string>) => ReadonlyArray<string>
  readonly options: (folder: string) => Partial<FastCgiHttpClient.FastCgiHttpClientOptions>
}

const script = (notes: string) =>
  `#!/bin/sh
length=$(wc -c)
[ "$REQUEST_METHOD" = POST ] && echo "$QUERY_STRING" >> ${notes}
body="$REQUEST_METHOD $QUERY_STRING $length"
printf 'Content-Type: text/plain\\r\\nContent-Length: %d\\r\\n\\r\\n%s' "\${#body}" "$body"
`

const kinds: ReadonlyArray<Kind> = [
  {
    name: "fcgiwrap",
    needs: ["fcgiwrap", "sh"],
    command: (folder, [fcgiwrap]) => {
      Fs.writeFileSync(join(folder, "script"), script(join(folder, "notes")), { mode: 0o755 })
      return [fcgiwrap!]
    },
    options: (folder) => ({ scriptFilename: join(folder, "script") })
  },
  {
    name: "a C program with libfcgi",
    needs: ["gcc"],
    command: (folder, [gcc]) => {
      execFileSync(gcc!, ["-o", join(folder, "notes.fcgi"), fixture("notes.c"), "-lfcgi"])
      return [join(folder, "notes.fcgi"), join(folder, "notes")]
    },
    options: () => ({})
  },
  {
    name: "our own server",
    needs: [],
    command: (folder) => [process.execPath, fixture("notes.ts"), join(folder, "notes")],
    options: () => ({})
  },
  // Compiling takes longer than all of the others.
  ...full ?
    [{
      name: "Go's net/http/fcgi",
      needs: ["go"],
      command: (folder: string, [go]: ReadonlyArray<string>) => {
        execFileSync(go!, ["build", "-o", join(folder, "notes.fcgi"), fixture("notes.go")], {
          env: {
            ...process.env,
            GOCACHE: join(tmpdir(), "effect-fastcgi-go-build"),
            GOFLAGS: "-mod=mod",
            GOPROXY: "off"
          }
        })
        return [join(folder, "notes.fcgi"), join(folder, "notes")]
      },
      options: () => ({})
    }] :
    []
]

const reasonOf = (error: HttpClientError.HttpClientError) => {
  const { cause } = error.reason
  assert.instanceOf(cause, FastCgiClientError.FastCgiClientError, String(error))
  return cause.reason
}

const get = (client: HttpClient.HttpClient, name: string) =>
  Effect.flatMap(client.get(`http://x.test/?${name}`), (response) => response.text)

const post = (client: HttpClient.HttpClient, name: string, size: number) =>
  Effect.flatMap(
    client.post(`http://x.test/?${name}`, { body: HttpBody.uint8Array(new Uint8Array(size)) }),
    (response) => response.text
  )

for (const { command, name, needs, options } of kinds) {
  describeWith(
    ["spawn-fcgi", "multiwatch", ...needs],
    `a pool in front of ${name}`,
    (spawnFcgi, multiwatch, ...paths) => {
      const start = Effect.gen(function*() {
        const folder = yield* Effect.acquireRelease(
          Effect.sync(() => Fs.mkdtempSync(join(tmpdir(), "fcgi-others-"))),
          (folder) => Effect.sync(() => Fs.rmSync(folder, { recursive: true, force: true }))
        )
        const path = join(folder, "app.sock")
        const connect = NodeFastCgiConnector.connect({ path })
        const watched = [multiwatch!, "-f", "2", "-r", "1000", "--", ...command(folder, paths)]
        const program = yield* WebServers.start({
          name,
          command: spawnFcgi!,
          args: ["-n", "-s", path, "--", ...watched],
          ready: Effect.scoped(connect)
        })
        const client = (settings: Partial<FastCgiHttpClient.FastCgiHttpClientOptions>) =>
          FastCgiHttpClient.make({ connect, ...options(folder), ...settings })
        // spawn-fcgi has become multiwatch, whose children are the application.
        const children = () =>
          Fs.readFileSync(`/proc/${program.pid}/task/${program.pid}/children`, "utf8").trim().split(" ").map(Number)
        const killed = Effect.gen(function*() {
          yield* WebServers.until("two processes", () => children().length === 2)
          const before = children()
          // One that is killed while it waits for the processor may still accept the connection on which a request is sent again, and
          // a request is sent again only so often. One that is stopped accepts nothing.
          for (const pid of before) process.kill(pid, "SIGSTOP")
          yield* WebServers.until("both are stopped", () => before.every(WebServers.isStopped))
          for (const pid of before) process.kill(pid, "SIGKILL")
          yield* WebServers.until(
            "two new processes",
            () => children().filter((pid) => pid > 0 && !before.includes(pid)).length === 2
          )
        })
        return { client, killed, notes: () => Fs.readFileSync(join(folder, "notes"), "utf8").trim().split("\n") }
      })

      it.live("answers GET and POST, more at once than it has processes, and loses none when it is killed", () =>
        Effect.gen(function*() {
          const { client, killed, notes } = yield* start
          const posted: Array<string> = []
          for (
            const settings of [
              { keepConnection: false },
              { keepConnection: true, maxConnections: 2 },
              { keepConnection: true }
            ]
          ) {
            const what = JSON.stringify(settings)
            // Each with a pool of its own: connections that another one keeps would have both processes.
            const answers = yield* Effect.flatMap(client(settings), (asking) =>
              Effect.forEach(
                range(24),
                (n) => n % 3 === 0 ? post(asking, `${what.length}-${n}`, n * 5000) : get(asking, `${what.length}-${n}`),
                { concurrency: "unbounded" }
              )).pipe(Effect.scoped, within(() => `24 answers with ${what}`, 30))
            assert.deepStrictEqual(
              answers,
              range(24).map((n) => n % 3 === 0 ? `POST ${what.length}-${n} ${n * 5000}` : `GET ${what.length}-${n} 0`)
            )
            posted.push(...range(24).filter((n) => n % 3 === 0).map((n) => `${what.length}-${n}`))
          }
          assert.deepStrictEqual(notes().toSorted(), posted.toSorted())

          const asking = yield* client({ keepConnection: true, maxConnections: 4 })
          const load = { over: false }
          let got = 0
          const failed: Array<FastCgiClientError.FastCgiClientErrorReason> = []
          const reported: Array<string> = []
          const gets = yield* Effect.forEach(range(4), (i) =>
            Effect.forkScoped(Effect.gen(function*() {
              for (let n = 0; !load.over; n++) {
                yield* Effect.matchEffect(get(asking, `get-${i}-${n}`), {
                  onFailure: (error) => Effect.sync(() => failed.push(reasonOf(error))),
                  onSuccess: (text) =>
                    Effect.sync(() => {
                      assert.strictEqual(text, `GET get-${i}-${n} 0`)
                      got++
                    })
                })
              }
            })))
          const posts = yield* Effect.forkScoped(Effect.gen(function*() {
            for (let n = 0; !load.over; n++) {
              yield* Effect.matchEffect(post(asking, `post-${n}`, 10), {
                onFailure: (error) => Effect.sync(() => reported.push(reasonOf(error)._tag)),
                onSuccess: (text) =>
                  Effect.sync(() => {
                    assert.strictEqual(text, `POST post-${n} 10`)
                    posted.push(`post-${n}`)
                  })
              })
            }
          }))
          const served = (more: number) => {
            const enough = got + more
            return Effect.repeat(Effect.sleep(1), { while: () => got < enough }).pipe(
              within(() => `${enough} answers, but ${got}`, 60)
            )
          }
          yield* served(10)
          for (let times = 0; times < (full ? 20 : 1); times++) {
            yield* killed
            yield* served(10)
          }
          load.over = true
          yield* within("the end of the load", 60)(Effect.forEach([...gets, posts], Fiber.join))
          // Of what has failed, a part of the answer had come, which cannot be taken back.
          for (const reason of failed) {
            assert.isAbove("received" in reason ? reason.received : 0, 0, JSON.stringify(reason))
          }
          for (const reason of reported) {
            assert.match(reason, /^(ConnectionLost|Truncated)$/)
          }
          const all = notes()
          assert.deepStrictEqual(all, Array.from(new Set(all)), "no POST has run twice")
          assert.deepStrictEqual(posted.filter((name) => !all.includes(name)), [], "what was answered has run")
        }))
    }
  )
}
