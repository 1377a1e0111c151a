/**
 * The stop of a server: how handlers learn of it, and how long it waits for them.
 */
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"

/** Succeeds when the server that runs the fiber has been told to stop. */
export const Stopping = Context.Reference<Effect.Effect<void>>(
  "effect-fastcgi/server/Stopping",
  { defaultValue: () => Effect.never }
)

/** The stop of one server. */
export class Stop {
  private readonly timeout: Duration.Duration
  private readonly running: () => { readonly requests: number; readonly connections: number }
  private readonly told = Deferred.makeUnsafe<void>()

  /** `timeout` is how long requests may take to finish, in milliseconds; `running` counts them. */
  constructor(timeout: number, running: Stop["running"]) {
    this.timeout = Duration.millis(timeout)
    this.running = running
  }

  /** Has `Stopping` in a context succeed when `tell` is called. */
  addTo<R>(context: Context.Context<R>): Context.Context<R> {
    return Context.add(context, Stopping, Deferred.await(this.told)) as Context.Context<R>
  }

  /** Tells the handlers, those that wait and those that ask later. */
  tell(): void {
    Deferred.doneUnsafe(this.told, Effect.void)
  }

  /** Waits for requests to finish, and after the time calls `onTimeout` with what still runs. */
  wait(finished: Effect.Effect<void>, onTimeout: (what: string) => void): Effect.Effect<void> {
    return Effect.timeoutOrElse(Effect.raceFirst(finished, this.explain), {
      duration: this.timeout,
      orElse: () =>
        Effect.sync(() => onTimeout(`${this.text}, ${Duration.format(this.timeout)} after the server was told to stop`))
    })
  }

  private get text(): string {
    const { connections, requests } = this.running()
    return `${requests} FastCGI requests on ${connections} connections`
  }

  // Whoever has told the server waits too, in a terminal without a word.
  private readonly explain: Effect.Effect<never> = Effect.suspend(() =>
    this.running().requests === 0 || !Duration.isGreaterThan(this.timeout, explainAfter)
      ? Effect.void
      : Effect.logInfo(
        `stopping: ${this.text} have another ${Duration.format(Duration.subtract(this.timeout, explainAfter))} ` +
          "to finish (gracefulShutdownTimeout)"
      )
  ).pipe(
    Effect.delay(explainAfter),
    Effect.andThen(Effect.never),
    Effect.interruptible
  )
}

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

// A stop that takes longer says what it waits for.
const explainAfter = Duration.seconds(1)
