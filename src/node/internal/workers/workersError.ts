/**
 * Why a supervisor gives up. Public by `NodeFastCgiWorkers`.
 */
import * as Data from "effect/Data"

/**
 * Why there are no workers, or none any more:
 *
 * - `NotStarted`: the first worker has ended, or taken too long, before it served
 * - `Emergency`: workers fail one after the other, and none serves
 *
 * @category errors
 * @since 0.1.0
 */
export type NodeFastCgiWorkersErrorReason =
  | { readonly _tag: "NotStarted" }
  | { readonly _tag: "Emergency" }

/**
 * The supervisor has given up. Whoever has started it decides whether to start it again.
 *
 * @category errors
 * @since 0.1.0
 */
export class NodeFastCgiWorkersError extends Data.TaggedError("NodeFastCgiWorkersError")<{
  readonly reason: NodeFastCgiWorkersErrorReason
  readonly message: string
}> {}
