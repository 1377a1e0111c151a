/**
 * Addresses as Node gives them.
 */
import * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import * as Result from "effect/Result"

/** The address as Node gives it; none for UNIX sockets and for what does not parse. */
export const inetAddress = (
  address: string | undefined,
  port: number | undefined
): Option.Option<NetAddress.InetAddress> => {
  if (address === undefined || port === undefined) return Option.none()
  // A dual-stack listener reports IPv4 peers as ::ffff:192.0.2.1, which no address list would match. The zone of a
  // link-local address (fe80::1%eth0) means something on this host only.
  const zone = address.indexOf("%")
  return Option.map(
    Result.getSuccess(NetAddress.inetAddressFromIpString(zone === -1 ? address : address.slice(0, zone), port)),
    NetAddress.toCanonical
  )
}
