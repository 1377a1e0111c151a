/** The whole application. It needs an HttpServer and a Board, and does not know which server it is. */
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as Layer from "effect/Layer"
import * as Api from "./Api.ts"
import { Board } from "./Board.ts"
import * as Routes from "./Routes.ts"

export const layer = HttpRouter.serve(Layer.mergeAll(Routes.layer, Api.layer), {
  disableListenLog: true,
  disableLogger: true
})

/**
 * Ends the live streams when it is closed. It is built last, so that it is closed first: a server that drains waits
 * for the requests that run, and a live stream would run for ever.
 */
export const endStreamsFirst = Layer.effectDiscard(
  Effect.flatMap(Board, (board) => Effect.addFinalizer(() => board.endWatching))
)
