/**
 * The header of the PROXY protocol, versions 1 and 2 (HAProxy's proxy-protocol.txt, 2020/03/05), in front of what a connection
 * carries: who is at the other end of the connection that a proxy has accepted. Pure.
 */
import { isIPv4, isIPv6 } from "node:net"

/** Where the proxied connection comes from. Of a connection that the proxy has made for itself, such as a check, nothing is said. */
export interface ProxySource {
  readonly remoteAddress: string
  readonly remotePort: number
}

/** A header that is there as a whole. */
export interface ProxyHeader {
  readonly _tag: "ProxyHeader"
  /** How many bytes it has. What follows is not of it. */
  readonly size: number
  readonly source: ProxySource | undefined
}

/** Says why the bytes are no header. */
export interface NoProxyHeader {
  readonly _tag: "NoProxyHeader"
  readonly message: string
}

/** The longest header that is read: two UNIX addresses have 216 bytes, and what HAProxy adds of TLS some hundred more. */
export const maxProxyHeaderSize = 4096

/** Whether bytes may be the beginning of a header, which no record of FastCGI begins with: its first byte is the version, 1. */
export const beginsProxyHeader = (first: number): boolean => first === letterP || first === signature[0]

/** The header that the bytes begin with; `undefined` where they may become one. */
export const parseProxyHeader = (bytes: Uint8Array): ProxyHeader | NoProxyHeader | undefined =>
  bytes.length === 0 ? undefined : bytes[0] === letterP ? parseText(bytes) : parseBinary(bytes)

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const letterP = 0x50
const signature = Uint8Array.of(0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a)
const lineFeed = 0x0a

// "A 108-byte buffer is always enough" (§2.1), with a NUL at its end.
const maxTextSize = 107

const none = (message: string): NoProxyHeader => ({ _tag: "NoProxyHeader", message })

const header = (size: number, source: ProxySource | undefined): ProxyHeader => ({ _tag: "ProxyHeader", size, source })

const prefix = "PROXY "

// §2.1: PROXY TCP4 192.0.2.1 192.0.2.2 51000 443\r\n
const parseText = (bytes: Uint8Array): ProxyHeader | NoProxyHeader | undefined => {
  const end = bytes.subarray(0, maxTextSize).indexOf(lineFeed)
  const text = String.fromCharCode(...bytes.subarray(0, end === -1 ? Math.min(bytes.length, maxTextSize) : end + 1))
  if (!text.startsWith(prefix.slice(0, text.length))) return none("it does not begin with PROXY and a space")
  if (end === -1) return bytes.length < maxTextSize ? undefined : none(`its line has no end in ${maxTextSize} bytes`)
  if (!text.endsWith("\r\n")) return none("its line does not end in CR and LF")
  const [, protocol, source, destination, sourcePort, destinationPort, ...rest] = text.slice(0, -2).split(" ")
  if (protocol === "UNKNOWN") return header(end + 1, undefined)
  const isAddress = protocol === "TCP4" ? isIPv4 : protocol === "TCP6" ? isIPv6 : undefined
  if (isAddress === undefined) return none("it names neither TCP4 nor TCP6")
  if (rest.length > 0 || ![source, destination].every((address) => address !== undefined && isAddress(address))) {
    return none(`it does not have two addresses of ${protocol}`)
  }
  const port = portOf(sourcePort)
  if (port === undefined || portOf(destinationPort) === undefined) return none("it does not have two ports")
  return header(end + 1, { remoteAddress: source, remotePort: port })
}

const portOf = (text: string | undefined): number | undefined =>
  text !== undefined && /^(?:0|[1-9]\d{0,4})$/.test(text) && Number(text) <= 65535 ? Number(text) : undefined

// §2.2: the signature, version and command, family, length; then the addresses, and what else the proxy says.
const parseBinary = (bytes: Uint8Array): ProxyHeader | NoProxyHeader | undefined => {
  for (let i = 0; i < Math.min(bytes.length, signature.length); i++) {
    if (bytes[i] !== signature[i]) return none("it begins neither with PROXY nor with the signature of version 2")
  }
  if (bytes.length < 16) return undefined
  const command = bytes[12]
  if (command !== 0x20 && command !== 0x21) {
    return none("its version is not 2, or its command is neither LOCAL nor PROXY")
  }
  const length = bytes[14] << 8 | bytes[15]
  const size = 16 + length
  if (size > maxProxyHeaderSize) return none(`it has ${size} bytes, at most ${maxProxyHeaderSize} are read`)
  const family = families.get(bytes[13])
  if (command === 0x21) {
    if (family === undefined) return none("its address family or its transport is unknown")
    if (length < family.size) return none(`its addresses do not fit into its ${length} bytes`)
  }
  if (bytes.length < size) return undefined
  return header(size, command === 0x21 ? family?.source(bytes.subarray(16)) : undefined)
}

interface Family {
  /** Bytes of the two addresses and ports. */
  readonly size: number
  readonly source: (bytes: Uint8Array) => ProxySource | undefined
}

const inet: Family = {
  size: 12,
  source: (bytes) => ({ remoteAddress: bytes.subarray(0, 4).join("."), remotePort: bytes[8] << 8 | bytes[9] })
}

const inet6: Family = {
  size: 36,
  source: (bytes) => ({
    remoteAddress: Array.from({ length: 8 }, (_, i) => (bytes[2 * i] << 8 | bytes[2 * i + 1]).toString(16)).join(":"),
    remotePort: bytes[32] << 8 | bytes[33]
  })
}

// UNIX addresses tell nothing of a peer.
const unix: Family = { size: 216, source: () => undefined }
const unspecified: Family = { size: 0, source: () => undefined }

// TCP or UDP, STREAM or DGRAM, over each of them.
const families: ReadonlyMap<number, Family> = new Map([
  [0x00, unspecified],
  [0x11, inet],
  [0x12, inet],
  [0x21, inet6],
  [0x22, inet6],
  [0x31, unix],
  [0x32, unix]
])
