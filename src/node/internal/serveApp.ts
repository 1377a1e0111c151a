/**
 * Serves an app written for `node:http` over a listener.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { FastCgiHttpServerOptions } from "../../http/FastCgiHttpServer.ts"
import type { FastCgiAdmission } from "../../server/FastCgiAdmission.ts"
import type { FastCgiListener } from "../../server/FastCgiListener.ts"
import * as FastCgiServer from "../../server/FastCgiServer.ts"
import { type HttpApp, httpResponder } from "./httpExchange.ts"

/** Serves until the scope closes, then drains. What an exchange forks and logs has the context of the layer. */
export const serveApp = (
  app: Omit<HttpApp, "fork">,
  options: FastCgiHttpServerOptions
): Layer.Layer<never, never, FastCgiListener | FastCgiAdmission> =>
  Layer.unwrap(
    Effect.map(Effect.context<never>(), (context) =>
      FastCgiServer.serve({
        responder: httpResponder({ ...app, fork: Effect.runForkWith(context) }, {
          basePath: options.basePath,
          from: options.urlFrom
        })
      }, options))
  )
