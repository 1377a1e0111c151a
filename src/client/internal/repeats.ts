/**
 * Which requests may be sent again. Nobody can tell whether an application has read a request whose connection was lost, so only
 * what may run twice is sent twice (RFC 9110 §9.2.2), as nginx does it.
 */
import { Role } from "../../protocol/FastCgiRecord.ts"
import type { FastCgiClientRequest } from "../FastCgiClient.ts"

/** How a request may be sent again. */
export interface Repeats {
  /** Its body is there to be sent again. */
  readonly inMemory: boolean
  /** And it may have been run. */
  readonly mayRunTwice: boolean
}

/** How a request with this method may be sent again. */
export const repeatsOf = (
  { data, role, stdin }: FastCgiClientRequest<unknown, unknown>,
  method: string | undefined
): Repeats => {
  const inMemory = isInMemory(stdin) && isInMemory(data)
  return {
    inMemory,
    // An Authorizer decides, and does nothing.
    mayRunTwice: inMemory && (role === Role.Authorizer || (method !== undefined && idempotent.has(method)))
  }
}

const isInMemory = (body: unknown): boolean => body === undefined || body instanceof Uint8Array

const idempotent: ReadonlySet<string> = new Set(["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "QUERY"])
