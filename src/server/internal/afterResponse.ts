/**
 * Work that handlers have left behind their responses: counted, limited, waited for by a drain.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import { LinkedItem, LinkedList } from "../../connection/internal/linkedList.ts"
import type { ApplicationRequest } from "./applicationRequest.ts"
import { annotationsOf } from "./handlerFailures.ts"

/** Where a server takes work that is to be done when the response to the current request is complete. */
export const AfterResponse = Context.Reference<((work: Effect.Effect<void>) => Effect.Effect<void>) | undefined>(
  "effect-fastcgi/server/AfterResponse",
  { defaultValue: () => undefined }
)

interface LeftWorkOptions {
  readonly most: number
  readonly requestOf: (context: Context.Context<never>) => ApplicationRequest | undefined
  /** There is no room for more. */
  readonly onFull: () => void
  /** There is one more, or one fewer. */
  readonly onChange: (by: 1 | -1) => void
}

/** The work of one server. */
export class LeftWork {
  private readonly options: LeftWorkOptions
  private readonly fibers = new LinkedList<LinkedItem<Fiber.Fiber<void>>>()
  private count = 0
  private isOver = false

  constructor(options: LeftWorkOptions) {
    this.options = options
  }

  /** Work that waits for its request to end, and work that runs. */
  get size(): number {
    return this.count
  }

  /** Takes work of the request whose handler asks. What there is no room for is done at once, and waited for. */
  readonly take = (work: Effect.Effect<void>): Effect.Effect<void> =>
    Effect.withFiber((fiber) => {
      if (this.count >= this.options.most) {
        this.options.onFull()
        return work
      }
      this.count++
      this.options.onChange(1)
      const { context } = fiber
      const request = this.options.requestOf(context)
      const own = Effect.provideContext(
        request === undefined ? work : Effect.annotateLogs(work, annotationsOf(request.params)),
        context
      )
      if (request === undefined || request.isOver) this.run(own)
      else (request.afterwards ??= []).push(own)
      return Effect.void
    })

  /** The request is over: what it has left begins. */
  ended(request: ApplicationRequest): void {
    const { afterwards } = request
    request.afterwards = undefined
    for (const work of afterwards ?? []) this.run(work)
  }

  /** Interrupts what runs. What would begin later, of requests that end afterwards, is left undone. */
  interrupt(): void {
    this.isOver = true
    for (const { value: fiber } of this.fibers.toArray()) fiber.interruptUnsafe()
  }

  // Not at once: nobody is called in the middle of a transition.
  private run(work: Effect.Effect<void>): void {
    if (this.isOver) return this.done()
    const fiber = Effect.runFork(Effect.andThen(Effect.yieldNow, work))
    const running = new LinkedItem(fiber)
    this.fibers.push(running)
    fiber.addObserver(() => {
      this.fibers.remove(running)
      this.done()
    })
  }

  private done(): void {
    this.count--
    this.options.onChange(-1)
  }
}
