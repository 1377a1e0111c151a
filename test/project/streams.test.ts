/**
 * What each stage of the chain takes and gives, with errors and requirements, is what the table of docs/streams.md says: the
 * compiler compares the signatures with the types below, and the test compares those with the table.
 */
import { assert, describe, it } from "@effect/vitest"
import type {
  FastCgiChannel,
  FastCgiConnection,
  FastCgiDecoder,
  FastCgiEncoder,
  FastCgiListener as Listener,
  FastCgiRecord,
  FastCgiRequest,
  FastCgiRequestError,
  FastCgiResponse,
  FastCgiServer,
  FastCgiTransport as Transport
} from "effect-fastcgi"
import type { NodeFastCgiTransport } from "effect-fastcgi/node"
import type { NonEmptyReadonlyArray } from "effect/Array"
import type { Channel } from "effect/Channel"
import type { Effect } from "effect/Effect"
import type { Layer } from "effect/Layer"
import type { Scope } from "effect/Scope"
import type { SocketServer } from "effect/socket/SocketServer"
import type { Stream } from "effect/Stream"
import * as Fs from "node:fs"
import * as Path from "node:path"
import type { Duplex } from "node:stream"
import { projectRoot } from "../support/files.ts"

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends (<T>() => T extends B ? 1 : 2) ? true : false

/** Whether a stage takes the one as its first argument and gives the other. */
type Stage<F extends (...args: ReadonlyArray<never>) => unknown, Takes, Gives> = [
  Equal<Parameters<F>[0], Takes>,
  Equal<ReturnType<F>, Gives>
]

/** Whether a stage that is a value is what it says. */
type Value<A, B> = [Equal<A, B>, true]

// The names of the table.
type Bytes = NonEmptyReadonlyArray<Uint8Array>
type Records = NonEmptyReadonlyArray<FastCgiRecord.FastCgiRecord>
type RawRecords = NonEmptyReadonlyArray<FastCgiChannel.FastCgiRawRecord>
type FastCgiTransport = Transport.FastCgiTransport
type FastCgiTransportError = Transport.FastCgiTransportError
type FastCgiTransportOptions<E1, R1, E2, R2> = Transport.FastCgiTransportOptions<E1, R1, E2, R2>
type FastCgiTransportStreams<E1, R1, E2, R2> = Transport.FastCgiTransportStreams<E1, R1, E2, R2>
type FastCgiTransportPairOptions = Transport.FastCgiTransportPairOptions
type FastCgiListener = Listener.FastCgiListener
type FastCgiListenerError = Listener.FastCgiListenerError
type FastCgiDecoderOptions = FastCgiDecoder.FastCgiDecoderOptions
type FastCgiDecodeError = FastCgiDecoder.FastCgiDecodeError
type FastCgiEncoderOptions = FastCgiEncoder.FastCgiEncoderOptions
type ConnectionRequest = FastCgiConnection.ConnectionRequest
type FastCgiRawResponse = FastCgiResponse.FastCgiRawResponse
type FastCgiRawResponseOptions = FastCgiResponse.FastCgiRawResponseOptions
type Handlers<E1, R1, E2, R2, E3, R3> = FastCgiServer.Handlers<E1, R1, E2, R2, E3, R3>
type Requirements<R1, R2, R3> = FastCgiServer.Requirements<R1, R2, R3>
type Forwarding<E> = FastCgiServer.Forwarding<E>

// Types that are like no other.
interface E {
  readonly e: "E"
}
interface E1 {
  readonly e: "E1"
}
interface E2 {
  readonly e: "E2"
}
interface E3 {
  readonly e: "E3"
}
interface IE {
  readonly e: "IE"
}
interface Done {
  readonly e: "Done"
}
interface R {
  readonly r: "R"
}
interface R1 {
  readonly r: "R1"
}
interface R2 {
  readonly r: "R2"
}
interface R3 {
  readonly r: "R3"
}

const names: Array<string> = []
const stage = <_ extends [true, true]>(name: string) => names.push(name)

stage<
  Stage<
    typeof Transport.make<E1, R1, E2, R2>,
    FastCgiTransportOptions<E1, R1, E2, R2>,
    Effect<FastCgiTransport, never, R1 | R2 | Scope>
  >
>("FastCgiTransport.make")
stage<
  Stage<
    typeof Transport.fromChannel<E, R>,
    Channel<Bytes, E, unknown, Bytes, never, void, R>,
    Effect<FastCgiTransport, never, R | Scope>
  >
>("FastCgiTransport.fromChannel")
stage<
  Stage<
    typeof Transport.fromStreams<E1, R1, E2, R2>,
    FastCgiTransportStreams<E1, R1, E2, R2>,
    Effect<FastCgiTransport, never, R1 | R2 | Scope>
  >
>("FastCgiTransport.fromStreams")
stage<
  Stage<
    typeof Transport.toChannel<IE>,
    FastCgiTransport,
    Channel<Bytes, FastCgiTransportError | IE, void, Bytes, IE, unknown>
  >
>("FastCgiTransport.toChannel")
stage<
  Stage<
    typeof Transport.makePair,
    FastCgiTransportPairOptions | undefined,
    Effect<{ readonly client: FastCgiTransport; readonly server: FastCgiTransport }>
  >
>("FastCgiTransport.makePair")
stage<Stage<typeof Transport.tap, FastCgiTransport, FastCgiTransport>>("FastCgiTransport.tap")
stage<Stage<typeof NodeFastCgiTransport.fromDuplex, Duplex, FastCgiTransport>>("NodeFastCgiTransport.fromDuplex")
stage<
  Value<typeof Listener.connections, Stream<FastCgiTransport, FastCgiListenerError, FastCgiListener>>
>("FastCgiListener.connections")
stage<
  Stage<
    typeof Listener.fromStream<E, R | Scope>,
    Stream<FastCgiTransport, E, R | Scope>,
    Layer<FastCgiListener, never, R>
  >
>("FastCgiListener.fromStream")
stage<
  Value<typeof Listener.layerSocketServer, Layer<FastCgiListener, never, SocketServer>>
>("FastCgiListener.layerSocketServer")
stage<
  Stage<
    typeof Listener.merge<[Layer<FastCgiListener, E1, R1>, Layer<FastCgiListener, E2, R2>]>,
    Layer<FastCgiListener, E1, R1>,
    Layer<FastCgiListener, E1 | E2, R1 | R2>
  >
>("FastCgiListener.merge")
stage<
  Stage<typeof Listener.tap<E, R>, Layer<FastCgiListener, E, R>, Layer<FastCgiListener, E, R>>
>("FastCgiListener.tap")
stage<
  Stage<
    typeof FastCgiChannel.decode<IE>,
    FastCgiDecoderOptions | undefined,
    Channel<Records, FastCgiDecodeError | IE, unknown, Bytes, IE, unknown>
  >
>("FastCgiChannel.decode")
stage<
  Stage<
    typeof FastCgiChannel.encode<IE, Done>,
    FastCgiEncoderOptions | undefined,
    Channel<Bytes, IE, Done, Records, IE, Done>
  >
>("FastCgiChannel.encode")
stage<
  Stage<
    typeof FastCgiChannel.decodeRaw<IE>,
    undefined,
    Channel<RawRecords, FastCgiDecodeError | IE, unknown, Bytes, IE, unknown>
  >
>("FastCgiChannel.decodeRaw")
stage<
  Stage<typeof FastCgiChannel.encodeRaw<IE, Done>, undefined, Channel<Bytes, IE, Done, RawRecords, IE, Done>>
>("FastCgiChannel.encodeRaw")
stage<
  Stage<typeof FastCgiConnection.requests<1 | 2 | 3>, FastCgiTransport, Stream<ConnectionRequest>>
>("FastCgiConnection.requests")
stage<
  Stage<
    typeof FastCgiConnection.serve<E1, R1, E2, R2, E3, R3>,
    FastCgiTransport,
    Effect<void, never, Requirements<R1, R2, R3>>
  >
>("FastCgiConnection.serve")
stage<
  Stage<
    typeof FastCgiConnection.channel<E1, R1, E2, R2, E3, R3, IE>,
    Handlers<E1, R1, E2, R2, E3, R3>,
    Channel<Bytes, never, void, Bytes, IE, unknown, Requirements<R1, R2, R3>>
  >
>("FastCgiConnection.channel")
stage<Stage<typeof FastCgiResponse.raw, FastCgiRawResponseOptions, FastCgiRawResponse>>("FastCgiResponse.raw")
stage<
  Stage<typeof FastCgiServer.forward<E>, Forwarding<E>, Handlers<E, Scope, E, Scope, E, Scope>>
>("FastCgiServer.forward")
stage<
  Stage<
    typeof FastCgiServer.serve<E1, R1, E2, R2, E3, R3>,
    Handlers<E1, R1, E2, R2, E3, R3>,
    Layer<never, never, FastCgiListener | Requirements<R1, R2, R3>>
  >
>("FastCgiServer.serve")

// @ts-expect-error: a type that is another one does not compile, so that the above can fail.
stage<Stage<typeof FastCgiServer.forward<E>, Forwarding<E1>, Handlers<E, Scope, E, Scope, E, Scope>>>("")
names.pop()

/** The rest of what docs/streams.md says of types. */
const holds = <_ extends true>() => undefined

holds<Equal<Requirements<R1 | Scope | FastCgiRequest.CurrentResponder, R2, never>, R1 | R2>>()
type Responding = FastCgiRequest.Responder & FastCgiConnection.Answerable<FastCgiResponse.FastCgiAnswer>
holds<Equal<ReturnType<typeof FastCgiConnection.requests<1>>, Stream<Responding>>>()
type Body = Stream<Uint8Array, FastCgiRequestError.FastCgiRequestError>
type Of<Role> = Extract<ConnectionRequest, { readonly role: Role }>
holds<Equal<Of<1>["stdin"], Body>>()
holds<Equal<[Of<3>["stdin"], Of<3>["data"]], [Body, Body]>>()
holds<Equal<"stdin" extends keyof Of<2> ? true : false, false>>()
holds<Equal<ConnectionRequest["aborted"], Effect<FastCgiConnection.FastCgiAbortReason>>>()
holds<Equal<Parameters<Of<1>["respond"]>[0], FastCgiResponse.FastCgiResponse | FastCgiRawResponse>>()
holds<Equal<Parameters<Of<2>["respond"]>[0], FastCgiResponse.FastCgiAuthorization | FastCgiRawResponse>>()
holds<Equal<ReturnType<ConnectionRequest["respond"]>, Effect<void>>>()

describe("docs/streams.md", () => {
  const page = Fs.readFileSync(Path.join(projectRoot, "docs/streams.md"), "utf8")
  const squeeze = (text: string) => text.replaceAll(/[\s;]/g, "")
  const checked = squeeze(Fs.readFileSync(import.meta.filename, "utf8"))
  const rows = [...page.matchAll(/^\| `([\w.]+)` +\| (.*?) +\| `(.*?)` +\|$/gm)].map(([, name, takes, gives]) => ({
    name: name!,
    takes: takes!.replaceAll(/`|\\/g, ""),
    gives: gives!.replaceAll("\\", "")
  }))

  it("has a row for each stage", () => {
    assert.isAtLeast(rows.length, 20)
    assert.deepStrictEqual(rows.map(({ name }) => name), names)
  })

  for (const { gives, name, takes } of rows) {
    it(`${name} takes and gives what its row says`, () => {
      const types = takes === "–" ? `,${gives}` : `,${takes},${gives}`
      assert.include(checked, `${squeeze(types)}>>("${name}")`)
    })
  }
})
