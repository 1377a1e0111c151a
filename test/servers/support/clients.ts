/**
 * Clients of a web server, in this process, which ask again and again and look at every answer.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Http from "node:http"
import * as WebServers from "../../support/webServers.ts"

/** What the clients have seen. */
export interface Seen {
  readonly requests: number
  readonly failed: number
  /** What went wrong, and how often. */
  readonly complaints: Readonly<Record<string, number>>
  /** The longest that a client has waited for an answer. Milliseconds. */
  readonly longest: number
}

export interface ClientsOptions {
  readonly port: number
  /** Every other request is a POST where it is both. */
  readonly method: "GET" | "POST" | "both"
  readonly clients: number
  /** How long the application takes for a request. Milliseconds. */
  readonly delay: number
}

export interface Clients {
  /** Waits until the clients have got so many more right answers. */
  readonly answers: (count: number) => Effect.Effect<void, WebServers.ProgramError>
  /** Lets the clients finish what they have begun. */
  readonly stop: Effect.Effect<Seen>
}

/** Clients that ask one thing after the other, each on a connection of its own as long as the web server keeps it. */
export const startClients = (
  { clients, delay, method: methods, port }: ClientsOptions
): Effect.Effect<Clients, never, Scope.Scope> =>
  Effect.gen(function*() {
    const complaints: Record<string, number> = {}
    let requests = 0
    let good = 0
    let failed = 0
    let longest = 0
    let active = clients
    let stopping = false
    let wake = () => {}
    const agents: Array<Http.Agent> = []

    const client = (agent: Http.Agent) => {
      if (stopping) {
        active--
        wake()
        return
      }
      const method = methods !== "both" ? methods : requests % 2 === 0 ? "POST" : "GET"
      const body = method === "POST" ? `a body of request ${requests}` : ""
      const began = performance.now()
      ask({ agent, port, method, body, delay, id: `${method}-${++requests}` }, (complaint) => {
        longest = Math.max(longest, performance.now() - began)
        if (complaint === undefined) good++
        else {
          failed++
          complaints[complaint] = (complaints[complaint] ?? 0) + 1
        }
        wake()
        // Not at once: a stack that grows with every request that fails at once would end.
        setImmediate(client, agent)
      })
    }

    const wait = (look: () => boolean) =>
      Effect.callback<void>((resume) => {
        wake = () => {
          if (look()) resume(Effect.void)
        }
        wake()
      })

    yield* Effect.acquireRelease(
      Effect.sync(() => {
        for (let i = 0; i < clients; i++) {
          const agent = new Http.Agent({ keepAlive: true, maxSockets: 1 })
          agents.push(agent)
          client(agent)
        }
      }),
      () =>
        Effect.sync(() => {
          stopping = true
          for (const agent of agents) agent.destroy()
        })
    )
    return {
      answers: (count) =>
        Effect.suspend(() => {
          const goal = good + count
          return Effect.timeoutOrElse(wait(() => good >= goal), {
            duration: "60 seconds",
            orElse: () =>
              Effect.fail(
                new WebServers.ProgramError({
                  message: `${count} answers: not within 60 seconds; ${failed} of ${requests} requests have failed: ` +
                    JSON.stringify(complaints)
                })
              )
          })
        }),
      stop: Effect.suspend(() => {
        stopping = true
        return Effect.map(wait(() => active === 0), () => ({ requests, failed, complaints, longest }))
      })
    }
  })

interface Question {
  readonly agent: Http.Agent
  readonly port: number
  readonly method: "GET" | "POST"
  readonly body: string
  readonly delay: number
  readonly id: string
}

/** Sends a request and says what was wrong with the answer, if anything. */
const ask = (
  { agent, body, delay, id, method, port }: Question,
  answered: (complaint: string | undefined) => void
): void => {
  const expected = `${body.length} after a delay`
  const outgoing = Http.request({
    host: "127.0.0.1",
    port,
    path: `/delay?ms=${delay}&id=${id}`,
    method,
    agent,
    headers: method === "POST" ? { "content-length": body.length } : {}
  })
  let done = false
  const finish = (complaint: string | undefined) => {
    if (done) return
    done = true
    answered(complaint)
  }
  outgoing.setTimeout(30_000, () => outgoing.destroy(new Error("no answer in 30 seconds")))
  outgoing.on("error", (error) => finish((error as NodeJS.ErrnoException).code ?? error.message))
  outgoing.on("response", (response) => {
    let text = ""
    response.setEncoding("utf8")
    response.on("data", (chunk: string) => text += chunk)
    response.on("error", () => finish("cut off"))
    response.on("end", () =>
      finish(
        response.statusCode !== 200 ? String(response.statusCode) : text === expected ? undefined : "another answer"
      ))
  })
  outgoing.end(body)
}
