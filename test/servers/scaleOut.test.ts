/**
 * Two applications behind every web server in the configuration that docs/scale-out.md recommends, under load: no request may fail
 * when one of them dies, is stopped, or is replaced. `npm run bench:scale-out` measures the other configurations in the same way.
 * Replacements behind the servers that repeat no request are tried with `FULL=1` only.
 */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { describeWith } from "../support/requirement.ts"
import { type Event, experiment } from "./support/scaleOut.ts"
import { setups, type WebServer } from "./support/scaleOutSetups.ts"

// GETs where they fare better than POSTs: a server that loses no POST loses no GET. A replacement begins with a stop.
const events: ReadonlyArray<readonly [event: Event, method: "GET" | "POST", name: string]> = [
  ["kill", "POST", "POSTs, when one application is killed"],
  ["restart", "POST", "POSTs, when one after the other is replaced"]
]

/** The requests that may be lost, and why. */
type Lost = readonly [most: number, reason: string]

const lost = (server: WebServer, event: Event, method: "GET" | "POST"): Lost | undefined => {
  if (server === "nginx" || server === "haproxy") return undefined
  if (event === "kill") {
    if (server === "lighttpd") return [24, "lighttpd repeats no request that it has sent"]
    return method === "GET" ? undefined : [24, "repeated without their bodies, which the application refuses"]
  }
  // A connection for each request, and no repetition that would do. Two stops, of which each may cost one.
  return [2, "a connection that is made in the moment in which the port is closed is reset"]
}

const full = process.env["FULL"] === "1"

const killed: (typeof events)[number] = ["kill", "GET", "GETs, when one application is killed"]

const eventsOf = (server: WebServer): typeof events => {
  if (server === "nginx" || server === "haproxy") return events
  const all = server === "lighttpd" ? events : [killed, ...events]
  return full ? all : all.slice(0, 1)
}

for (const setup of setups.filter(({ recommended }) => recommended)) {
  describeWith([setup.server], `two applications behind ${setup.server}`, () => {
    for (const [event, method, name] of eventsOf(setup.server)) {
      const [most, reason] = lost(setup.server, event, method) ?? [0]
      const limit = reason === undefined ? "no" : `no more than ${most}`
      it.live(`lose ${limit} ${name}${reason === undefined ? "" : ` (${reason})`}`, () =>
        Effect.gen(function*() {
          const { complaints, failed, requests } = yield* experiment({
            setup,
            event,
            method,
            answers: full ? 600 : 300,
            patience: "50 seconds"
          })
          assert.isAtMost(failed, most, JSON.stringify(complaints))
          assert.isAtLeast(requests, 600)
        }))
    }
  })
}
