/**
 * The variables of GET_VALUES, with the values that are enforced (SPEC 4.1). They do not change.
 */
import { ValueName } from "../../protocol/FastCgiRecord.ts"
import type { FastCgiAdmission } from "../FastCgiAdmission.ts"
import type { FastCgiServerOptions } from "../FastCgiServerOptions.ts"

/** The answer of a server to a GET_VALUES that asks for everything. */
export const valuesOf = (
  { maxConnections, maxRequests }: FastCgiAdmission["Service"],
  options: FastCgiServerOptions
): ReadonlyArray<readonly [string, string]> => {
  const known = new Map<string, string>(Object.entries(options.values ?? {}))
  known.set(ValueName.MpxsConns, options.multiplexing !== false ? "1" : "0")
  // A missing limit is no number, and so no value: SPEC 4.1 lets us leave it out.
  if (maxRequests !== "unbounded") known.set(ValueName.MaxReqs, String(maxRequests))
  const connections = maxConnections === "unbounded" ? maxRequests : maxConnections
  if (connections !== "unbounded") known.set(ValueName.MaxConns, String(connections))
  return Array.from(known)
}
