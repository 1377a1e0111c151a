/**
 * An application with two roles, as a program: an Authorizer that does what the query of a request asks for, or checks names and
 * passwords where there are some, and a Responder that answers with its params. `node authorizer.ts --path /tmp/x/auth.sock`;
 * without `--path` and `--port` it listens on file descriptor 0, as a web server starts it. It says on stderr what it is asked.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import { parseArgs } from "node:util"
import { FastCgiAdmission, type FastCgiRequest, FastCgiResponse, FastCgiServer } from "../../src/index.ts"
import { NodeFastCgiListener } from "../../src/node/index.ts"

const { values } = parseArgs({
  options: {
    path: { type: "string" },
    port: { type: "string" },
    "max-requests": { type: "string" },
    "responder-only": { type: "boolean" }
  }
})

const say = (line: string) => Effect.sync(() => process.stderr.write(`${line}\n`))

/** Who may log in, and who of them may have what is guarded. */
const users = new Map([["ann", "secret"], ["bob", "secret"]])
const allowed = new Set(["ann"])

const login = FastCgiResponse.deny(FastCgiResponse.make("who are you?\n", {
  status: 401,
  headers: { "WWW-Authenticate": "Basic realm=\"test\"" }
}))

const forbidden = FastCgiResponse.deny(FastCgiResponse.make("not for you\n", {
  status: 403,
  headers: { "X-Reason": "not on the list" }
}))

const decide = (request: FastCgiRequest.Authorizer): Effect.Effect<FastCgiResponse.FastCgiAuthorization, unknown> => {
  const { params } = request
  const user = params.get("REMOTE_USER") ?? ""
  const password = params.get("REMOTE_PASSWD")
  const isPassword = password !== undefined && users.get(user) === password
  const role = Option.getOrElse(request.apacheRole, () => password === undefined ? "none" : "both")
  const query = new URLSearchParams(params.get("QUERY_STRING") ?? "")
  const names = { AUTH_USER: user === "" ? "ann" : user, [`ASKED_${role}`]: "yes" }
  const allow = FastCgiResponse.allow(names)
  const answers = {
    // With RequireBasicAuth Off there is no user yet: it is for the authorizer to say who that is.
    AUTHENTICATOR: user === "" || isPassword ? allow : login,
    AUTHORIZER: allowed.has(user) ? allow : forbidden,
    both: !isPassword ? login : allowed.has(user) ? allow : forbidden,
    ACCESS_CHECKER: allow,
    none: allow
  }
  const asked = query.get(role.toLowerCase()) ?? query.get("auth")
  switch (asked) {
    case "deny":
      return Effect.succeed(forbidden)
    case "login":
      return Effect.succeed(login)
    case "redirect":
      return Effect.succeed(FastCgiResponse.deny(FastCgiResponse.make(undefined, {
        status: 302,
        headers: { Location: "/login" }
      })))
    case "deny-with-200":
      return Effect.succeed(FastCgiResponse.deny(FastCgiResponse.make("denied", { status: 200 })))
    case "defect":
      return Effect.die(new Error("secret of the handler"))
    case "failure":
      return Effect.fail(new Error("secret of the handler"))
    case "timeout":
      return Effect.timeout(Effect.never, "50 millis")
    case "interrupt":
      return Effect.interrupt
    case "line-break-in-value":
      return Effect.succeed(FastCgiResponse.allow({ AUTH_USER: "ann\r\nVariable-ADMIN: yes" }))
    case "line-break-in-name":
      return Effect.succeed(FastCgiResponse.allow({ "AUTH_USER: ann\r\nVariable-ADMIN": "yes" }))
    case "no-name":
      return Effect.succeed(FastCgiResponse.allow({ "": "yes" }))
    case "too-much":
      return Effect.succeed(FastCgiResponse.allow({ AUTH_USER: "a".repeat(70_000) }))
    case "wait":
      return Effect.andThen(say("waiting"), Effect.never)
    case "exit":
      return Effect.sync(() => process.exit(3))
    default:
      return Effect.succeed(answers[role])
  }
}

const authorizer = (request: FastCgiRequest.Authorizer) =>
  Effect.andThen(
    say(`asked ${JSON.stringify(Object.fromEntries(request.params))}`),
    Effect.suspend(() => decide(request))
  )

const responder = (request: FastCgiRequest.Responder) =>
  Effect.succeed(
    FastCgiResponse.make(JSON.stringify(Object.fromEntries(request.params)), {
      headers: { "Content-Type": "application/json" }
    })
  )

const listeners = [
  ...(values.path === undefined ? [] : [{ path: values.path, mode: 0o666 }]),
  ...(values.port === undefined ? [] : [{ port: Number(values.port) }])
]

const maxRequests = values["max-requests"]

const server = FastCgiServer.serve(
  values["responder-only"] === true ? { responder } : { responder, authorizer },
  { gracefulShutdownTimeout: "100 millis" }
)

Layer.launch(server.pipe(Layer.provide([
  NodeFastCgiListener.layer(listeners.length === 0 ? {} : listeners),
  FastCgiAdmission.layer(maxRequests === undefined ? {} : { maxRequests: Number(maxRequests) })
]))).pipe(
  Effect.tapCause((cause) => Cause.hasInterruptsOnly(cause) ? Effect.void : Effect.logError(cause)),
  Effect.provideService(Logger.LogToStderr, true),
  NodeRuntime.runMain({
    disableErrorReporting: true,
    teardown: (exit, onExit) => onExit(exit._tag === "Success" || Cause.hasInterruptsOnly(exit.cause) ? 0 : 1)
  })
)
