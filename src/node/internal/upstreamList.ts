/**
 * A list of upstreams as one text: addresses with commas between them, each with what nginx says behind its own.
 */
import * as Arr from "effect/Array"
import { addressForms, parseAddress } from "./address.ts"

type Place = NonNullable<ReturnType<typeof parseAddress>>

/** One of them. */
interface ListedUpstream {
  readonly to: Place
  /** The address, where there are several. */
  readonly name: string | undefined
  readonly weight: number | undefined
  readonly maxConnections: number | undefined
}

/** What `parseUpstreams` takes, for a sentence. */
export const upstreamForms = `${addressForms}, or several of these with commas between them, each with weight=N and ` +
  "max_conns=N behind it where it has them"

/** Reads a list. `undefined` where any of it is wrong, or an address comes twice. */
export const parseUpstreams = (text: string): Arr.NonEmptyReadonlyArray<ListedUpstream> | undefined => {
  const parts = text.split(",").map((part) => part.trim().split(/\s+/))
  const upstreams: Array<ListedUpstream> = []
  for (const [address = "", ...settings] of parts) {
    const to = parseAddress(address)
    if (to === undefined || upstreams.some(({ name }) => name === address)) return undefined
    let weight: number | undefined
    let maxConnections: number | undefined
    for (const setting of settings) {
      const [, name, value] = /^(weight|max_conns)=([1-9]\d{0,8})$/.exec(setting) ?? []
      if (name === "weight" && weight === undefined) weight = Number(value)
      else if (name === "max_conns" && maxConnections === undefined) maxConnections = Number(value)
      else return undefined
    }
    upstreams.push({ to, name: parts.length === 1 ? undefined : address, weight, maxConnections })
  }
  return Arr.isArrayNonEmpty(upstreams) ? upstreams : undefined
}
