/**
 * What the header fields of both directions have in common.
 */

/**
 * Fields about one hop, which a gateway ends (RFC 9110 §7.6.1). HTTP/1.1 framing is none of FastCGI's business: nginx,
 * Apache and h2o would pass a chunked body on as it is.
 */
export const hopByHop: ReadonlySet<string> = new Set([
  "connection",
  "http2-settings",
  "keep-alive",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade"
])

const token = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/

/** Whether a name is a field name: a token (RFC 9110 §5.1, §5.6.2). */
export const isFieldName = (name: string): boolean => token.test(name)

// oxlint-disable-next-line no-control-regex -- control characters are the point
const notInValue = /[^\t\x20-\x7e\x80-\xff]/

/** Whether text can be a field value: one character per byte, no control character but HTAB (RFC 9110 §5.5). */
export const isFieldValue = (value: string): boolean => !notInValue.test(value)
