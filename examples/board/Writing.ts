/**
 * Who is writing a note just now, told to the other pages that are open, over a WebSocket. Nothing of it is kept, and the page
 * works without: behind a web server that carries no WebSockets nobody is shown.
 */
import { FastCgiHttpServer } from "effect-fastcgi/http"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Option from "effect/Option"
import * as PubSub from "effect/PubSub"
import * as Schema from "effect/Schema"
import * as Socket from "effect/socket/Socket"
import * as Stream from "effect/Stream"

/** Where the WebSocket is. */
export const path = "/writing"

/** What a page says of its reader. */
const Said = Schema.fromJsonString(Schema.Struct({
  author: Schema.String.check(Schema.isMaxLength(60)),
  writing: Schema.Boolean
}))

interface Event {
  /** A number that each page has while it is open. */
  readonly page: number
  readonly author: string
  readonly writing: boolean
}

/** Events that wait for a page that is slow to take them; older ones are left out. */
const maxWaiting = 64

/**
 * Whether what stands in front carries WebSockets: Node's own server, the gateway, and lighttpd from 1.4.74 on. A page that tried
 * elsewhere would be refused, and its browser would say so in the console.
 */
export const available: Effect.Effect<boolean, never, HttpServerRequest.HttpServerRequest> = Effect.map(
  FastCgiHttpServer.origin,
  Option.match({
    onNone: () => true,
    onSome: ({ variables: { serverSoftware = "" } }) => {
      const lighttpd = /^lighttpd\/1\.4\.(\d+)/.exec(serverSoftware)
      return serverSoftware.startsWith("effect-fastcgi") || Number(lighttpd?.[1] ?? 0) >= 74
    }
  })
)

export const layer = HttpRouter.use(Effect.fnUntraced(function*(router) {
  const events = yield* PubSub.sliding<Event>(maxWaiting)
  let lastPage = 0
  yield* router.add(
    "GET",
    path,
    Effect.gen(function*() {
      const socket = yield* (yield* HttpServerRequest.HttpServerRequest).upgrade
      const writer = yield* socket.writer
      const pull = yield* Socket.readerString(socket)
      const page = ++lastPage
      const tell = ({ author, writing }: typeof Said.Type) => PubSub.publish(events, { page, author, writing })
      yield* Effect.addFinalizer(() => tell({ author: "", writing: false }))
      yield* Stream.fromPubSub(events).pipe(
        Stream.filter((event) => event.page !== page),
        Stream.runForEach((event) => writer.write(JSON.stringify(event))),
        Effect.forkScoped
      )
      const said = (text: string) =>
        Effect.matchEffect(Schema.decodeUnknownEffect(Said)(text), {
          onSuccess: tell,
          // Not from this page's script.
          onFailure: () => writer.write(new Socket.CloseEvent(1008, "that is nothing that a page says"))
        })
      return yield* Effect.forever(Effect.flatMap(pull, Effect.forEach(said, { discard: true })))
    }).pipe(
      // The page has been closed.
      Effect.catchIf(Socket.isSocketError, () => Effect.succeed(HttpServerResponse.empty()))
    )
  )
}))
