/**
 * Which Host header a request over TCP may have. A page of any site can have its own name resolved to an address of this host (DNS
 * rebinding), and then its scripts read what is served here. The name is still in the Host header, and no browser leaves that out.
 */
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"

/** What `isHostName` holds for, in words. */
export const aHostName =
  "names of hosts without a port, such as \"app.example\" or \".example\" with all names below it"

/** Whether an entry of a list is the name of a host, or a dot and what names end with. */
export const isHostName = (name: string): boolean => /^\.?[\w-]+(?:\.[\w-]+)*$/.test(name)

/**
 * Makes the check of a Host header. It passes `localhost`, the names below it, addresses, and `names`; an entry that begins with a dot
 * stands for the name behind the dot and all names below it. A request without the header is none of a browser.
 */
export const makeHostCheck = (names: ReadonlyArray<string>): (header: string | undefined) => boolean => {
  const known = [".localhost", ...names.map((name) => name.toLowerCase())]
  return (header) => {
    if (header === undefined || header === "") return true
    const host = /^(?:\[([^[\]]*)\]|([^:[\]]*))(?::\d*)?$/.exec(header)
    if (host === null) return false
    const [, ipv6, other = ""] = host
    if (ipv6 !== undefined) return Result.isSuccess(NetAddress.ipv6FromString(ipv6))
    const name = other.toLowerCase()
    return Result.isSuccess(NetAddress.ipv4FromString(name)) ||
      known.some((one) => name === one || (one.startsWith(".") && (name === one.slice(1) || name.endsWith(one))))
  }
}
