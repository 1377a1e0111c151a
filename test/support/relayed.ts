/**
 * Connections whose bytes take the way through the standard input and output of a child process, which knows nothing of them. Unlike in
 * memory, bytes are on the way for a while, and no clock of a test knows how long: `arrived` waits for them.
 */
import * as NodeSink from "@effect/platform-node/NodeSink"
import * as NodeStream from "@effect/platform-node/NodeStream"
import { FastCgiTransport } from "effect-fastcgi"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { identity } from "effect/Function"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Sink from "effect/Sink"
import * as ChildProcess from "node:child_process"
import type * as Net from "node:net"
import { type Carry, join } from "./ways.ts"

/** One direction of a child: what is written goes through it, and is read. */
interface Direction {
  readonly written: Net.Socket
  readonly read: Net.Socket
  /** The end has been read. */
  ended: boolean
  /** Turns of the event loop that are left to an end for being told: Node closes what has ended first, unless nobody pulls. */
  turnsToTell: number
}

const directions = new Set<Direction>()

/** A connection whose peer has gone, and of which something is left: it may be held, and then nobody waits for it for ever. */
interface Departure {
  turnsLeft: number
}

const departures = new Set<Departure>()

// Turns of the event loop, some milliseconds.
const turnsToDepart = 300

const direction = (written: Net.Socket, read: Net.Socket): Direction => {
  const one = { written, read, ended: false, turnsToTell: 10 }
  const { push } = read
  read.push = (chunk, encoding) => {
    if (chunk === null) one.ended = true
    return push.call(read, chunk, encoding)
  }
  directions.add(one)
  const forget = () => {
    if (read.closed && written.closed) directions.delete(one)
  }
  read.once("close", forget)
  written.once("close", forget)
  return one
}

// What arrives is kept for a reader who does not take it, up to a limit, and what comes then waits in the pipes. Who writes to one that
// reads no more gets an error for what the pipes do not hold.
const isOnItsWay = ({ ended, read, turnsToTell, written }: Direction): boolean => {
  if (read.destroyed) return !written.destroyed && written.writableLength > 0
  if (ended) return turnsToTell > 0 && !read.closed
  if (read.readableLength >= read.readableHighWaterMark) return false
  return written.destroyed || written.writableEnded || written.writableLength > 0 ||
    written.bytesWritten > read.bytesRead
}

/** Whether bytes, or an end, are on their way. */
export const isUnderWay = (): boolean =>
  [...directions].some(isOnItsWay) || [...departures].some(({ turnsLeft }) => turnsLeft > 0)

const turn = Effect.callback<void>((resume) => {
  for (const one of directions) if (one.ended) one.turnsToTell--
  for (const one of departures) one.turnsLeft--
  const immediate = setImmediate(() => resume(Effect.void))
  return Effect.sync(() => clearImmediate(immediate))
})

/** Waits until nothing is on its way. */
export const arrived: Effect.Effect<void> = Effect.suspend(() =>
  isUnderWay() ? Effect.andThen(turn, arrived) : Effect.void
)

const streamsOf = ({ read }: Direction, { written }: Direction) => ({
  input: NodeStream.fromReadable<Uint8Array>({ evaluate: () => read }),
  output: NodeSink.fromWritable({ evaluate: () => written, onError: identity })
})

// The server has the child's standard input and output, the listener the other ends of what the child copies from and to.
const program = "cat <&3 3<&- 4>&- & exec cat >&4 3<&- 4>&-"

/** Over the standard input and output of a child, which ends when both directions have, or with the scope. */
export const overStdio: Carry = (transport) =>
  Effect.gen(function*() {
    const scope = Scope.forkUnsafe(yield* Effect.scope)
    const context = yield* Effect.context<never>()
    const child = ChildProcess.spawn("sh", ["-c", program], { stdio: ["pipe", "pipe", "ignore", "pipe", "pipe"] })
    const departure = { turnsLeft: turnsToDepart }
    let isOver = false
    const over = Effect.sync(() => {
      isOver = true
      departures.delete(departure)
    })
    child.once("close", () => Effect.runForkWith(context)(Effect.andThen(Scope.close(scope, Exit.void), over)))
    const peer = FastCgiTransport.tap(transport, {
      onClose: () => {
        if (!isOver) departures.add(departure)
      }
    })
    const [stdin, stdout, , fromListener, toListener] = child.stdio as unknown as ReadonlyArray<Net.Socket>
    const input = direction(fromListener, stdout)
    const output = direction(stdin, toListener)
    return yield* Effect.gen(function*() {
      const { input: answers, output: requests } = streamsOf(output, input)
      const far = yield* FastCgiTransport.fromStreams({
        input: answers,
        // What a peer sends in one turn is one write, and so one read, as without the child.
        output: Sink.mapInputArray(requests, (chunks: ReadonlyArray<Uint8Array>) => [Buffer.concat(chunks)] as const)
      })
      const near = yield* FastCgiTransport.fromStreams({
        ...streamsOf(input, output),
        peer: Option.getOrUndefined(transport.peer)
      })
      yield* Effect.forkScoped(join(peer, FastCgiTransport.toChannel<FastCgiTransport.FastCgiTransportError>(far)))
      // Before the transports close: what they still write has a second, and the clock of a test stands still.
      yield* Effect.addFinalizer(() => Effect.sync(() => child.kill("SIGKILL")))
      return near
    }).pipe(Scope.provide(scope))
  })
