/**
 * How a handler learns that its server has been told to stop.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"

/** Succeeds when the server that runs the fiber has been told to stop. */
export const Stopping = Context.Reference<Effect.Effect<void>>(
  "effect-fastcgi/server/Stopping",
  { defaultValue: () => Effect.never }
)
