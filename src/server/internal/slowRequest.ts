/**
 * The visible state of a running request: the spans that it has begun, and the frames of its fiber.
 */
import type * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import type { StackFrame } from "effect/References"
import * as Tracer from "effect/Tracer"

/** Spans by their parents. */
export interface SpanTree {
  /** Makes spans as another tracer does, and notes whose they are. */
  readonly tracer: Tracer.Tracer
  /** The spans of a fiber that are not older than `since`, a line each, in nanoseconds since 1970. */
  readonly of: (fiber: Fiber.Fiber<unknown, unknown>, since: bigint, now: bigint) => ReadonlyArray<string>
}

// Children of a span that are noted: the first, and no more, because a span of the whole program never ends.
const maxChildren = 100
// Lines of a tree.
const maxLines = 200

/** Notes the children of spans that `inner` makes. */
export const makeSpanTree = (inner: Tracer.Tracer): SpanTree => {
  const children = new WeakMap<Tracer.AnySpan, Array<Tracer.Span>>()
  const tracer = Tracer.make({
    ...(inner.context === undefined ? {} : { context: inner.context }),
    span(options) {
      const span = inner.span(options)
      const parent = Option.getOrUndefined(options.parent)
      if (parent !== undefined) {
        const siblings = children.get(parent)
        if (siblings === undefined) children.set(parent, [span])
        else if (siblings.length < maxChildren) siblings.push(span)
      }
      return span
    }
  })
  return {
    tracer,
    of(fiber, since, now) {
      const lines: Array<string> = []
      const add = (span: Tracer.Span, depth: number): void => {
        if (lines.length === maxLines) return
        lines.push(`${"  ".repeat(depth)}${describe(span, now)}`)
        for (const child of children.get(span) ?? []) add(child, depth + 1)
      }
      const root = rootOf(fiber.cache.span, since)
      if (root !== undefined) add(root, 0)
      return lines
    }
  }
}

/** The frames, innermost first: a name, and the place where it is, if that is known. */
export const frames = (frame: StackFrame | undefined, depth: number): ReadonlyArray<string> => {
  const lines: Array<string> = []
  for (let at = frame; at !== undefined && lines.length < depth; at = at.parent) {
    const place = at.stack()?.replace(/^at /, "").trim()
    lines.push(place === undefined || place === "" ? at.name : `${at.name} (${place})`)
  }
  return lines
}

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

// The outermost span that began with the request or after it: those outside are the program's.
const rootOf = (span: Tracer.AnySpan | undefined, since: bigint): Tracer.Span | undefined => {
  let root: Tracer.Span | undefined
  for (let at = span; at?._tag === "Span" && at.status.startTime >= since; at = Option.getOrUndefined(at.parent)) {
    root = at
  }
  return root
}

const describe = ({ name, status }: Tracer.Span, now: bigint): string => {
  const end = status._tag === "Ended" ? status.endTime : now
  const millis = (Number(end - status.startTime) / 1e6).toFixed(1)
  return `${name}: ${millis} ms${status._tag === "Ended" ? status.exit._tag === "Success" ? "" : ", failed" : ", open"}`
}
