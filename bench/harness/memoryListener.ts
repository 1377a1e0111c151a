/** A listener in memory: connections are given to the app by a call. */
import { FastCgiAdmission, FastCgiListener, type FastCgiTransport } from "effect-fastcgi"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"

/** Gives the app a connection. */
export type Accept = (transport: FastCgiTransport.FastCgiTransport) => void

/** Runs the app until the scope is closed. Gives the listener's way in, and the admission. */
export const serveInMemory = Effect.fnUntraced(function*(
  app: Layer.Layer<never, never, FastCgiListener.FastCgiListener | FastCgiAdmission.FastCgiAdmission>,
  admission?: FastCgiAdmission.FastCgiAdmissionOptions
) {
  let accept: Accept | undefined
  const listener = Layer.succeed(FastCgiListener.FastCgiListener, {
    address: NetAddress.unixPathAddress("memory"),
    addresses: [NetAddress.unixPathAddress("memory")],
    run: (onConnection) =>
      Effect.callback<never>(() => {
        accept = onConnection
      }),
    stopAccepting: Effect.void
  })
  const context = yield* Layer.build(app.pipe(Layer.provideMerge([listener, FastCgiAdmission.layer(admission)])))
  return { accept: accept!, admission: Context.get(context, FastCgiAdmission.FastCgiAdmission) }
})
