/**
 * The params of a request before it is sent: encoded, or as pairs.
 */
import * as FastCgiParams from "../../protocol/FastCgiParams.ts"
import { concat } from "../../protocol/internal/bytes.ts"
import type { FastCgiClientRequest } from "../FastCgiClient.ts"

type Params = FastCgiClientRequest["params"]
type Pair = readonly [string | Uint8Array, string | Uint8Array]

/** Params that can be walked more than once. */
export const settledParams = (params: Params): FastCgiParams.FastCgiParams | ReadonlyArray<Pair> =>
  "bytes" in params ? params : Array.isArray(params) ? params : Array.from(params)

/** The value of a name; the last one where there are several. */
export const paramOf = (params: Params, name: string): string | undefined => {
  if ("bytes" in params) return params.get(name)
  let found: string | undefined
  for (const [other, value] of params) {
    if ((typeof other === "string" ? other : decoder.decode(other)) !== name) continue
    found = typeof value === "string" ? value : decoder.decode(value)
  }
  return found
}

/** Params with one more, in the place of those with its name. */
export const withParam = (params: Params, name: string, value: string): Params => {
  if ("bytes" in params) {
    // As it came, byte for byte; of several the last one counts.
    const bytes = concat([params.bytes, FastCgiParams.encodePairs([[name, value]])])
    const added = FastCgiParams.fromBytes(bytes)
    return added instanceof FastCgiParams.FastCgiParamsError ? params : added
  }
  const pairs: Array<Pair> = []
  for (const pair of params) if (pair[0] !== name) pairs.push(pair)
  pairs.push([name, value])
  return pairs
}

const decoder = new TextDecoder()
