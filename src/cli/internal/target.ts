/**
 * The application that a command talks to.
 */
import * as Argument from "effect/cli/Argument"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Net from "node:net"
import type { FastCgiTransport } from "../../connection/FastCgiTransport.ts"
import { addressForms, addressMistake, parseAddress, parseDescriptor } from "../../node/internal/address.ts"
import { formatHost, formatPath } from "../../node/internal/listenerError.ts"
import * as NodeFastCgiConnector from "../../node/NodeFastCgiConnector.ts"
import * as NodeFastCgiTransport from "../../node/NodeFastCgiTransport.ts"
import { type CommandFailure, ExitCode, fail, usage } from "./failure.ts"

/** Where an application listens, and how to connect to it. */
export interface Target {
  /** As a person reads it. */
  readonly name: string
  readonly connect: Effect.Effect<
    FastCgiTransport,
    NodeFastCgiConnector.FastCgiConnectError | CommandFailure,
    Scope.Scope
  >
}

/** The argument that names the application. */
export const address = Argument.String("address").pipe(
  Argument.withDescription(`Where the application listens: ${addressForms}, or fd:NUMBER for a connection on it.`)
)

/** The target that a person has typed. `timeout` is how long connecting may take, by default 10 seconds. */
export const parse = (
  text: string,
  timeout?: Duration.Input | undefined
): Effect.Effect<Target, CommandFailure> => {
  const fd = parseDescriptor(text)
  if (fd !== undefined) return Effect.succeed(descriptor(fd))
  const to = parseAddress(text)
  if (to === undefined) return usage(addressMistake(text))
  const name = "path" in to ? `unix:${formatPath(to.path)}` : `${formatHost(to.host ?? "127.0.0.1")}:${to.port}`
  return Effect.succeed({ name, connect: NodeFastCgiConnector.connect({ ...to, connectTimeout: timeout }) })
}

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

// The program that started the command has connected the descriptor already, as inetd does.
const descriptor = (fd: number): Target => {
  let taken = false
  const connect = Effect.suspend(() => {
    if (taken) return fail(ExitCode.Unreachable, `File descriptor ${fd} is one connection, and it has been used.`)
    taken = true
    return Effect.acquireRelease(
      Effect.try({
        try: () => new Net.Socket({ fd, allowHalfOpen: true }),
        catch: () => fail(ExitCode.Unreachable, `File descriptor ${fd} is not a connection.`)
      }).pipe(Effect.catch((failed) => failed)),
      (socket) => Effect.sync(() => socket.destroy())
    ).pipe(Effect.map((socket) => NodeFastCgiTransport.fromDuplex(socket)))
  })
  return { name: `fd:${fd}`, connect }
}
