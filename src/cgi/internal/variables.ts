/**
 * The class behind `CgiVariables`.
 */
import * as Redacted from "effect/Redacted"
import type { FastCgiParams } from "../../protocol/FastCgiParams.ts"
import type { CgiSsl, CgiVariables } from "../CgiRequest.ts"
import { decode } from "./percent.ts"

export const makeVariables = (
  params: FastCgiParams,
  scheme: (params: FastCgiParams) => "http" | "https"
): CgiVariables => new Variables(params, scheme)

class Variables implements CgiVariables {
  readonly params: FastCgiParams
  private readonly schemeOf: (params: FastCgiParams) => "http" | "https"

  constructor(params: FastCgiParams, scheme: (params: FastCgiParams) => "http" | "https") {
    this.params = params
    this.schemeOf = scheme
  }

  readonly get = (name: string): string | undefined => this.params.get(name)

  get serverSoftware(): string | undefined {
    return this.text("SERVER_SOFTWARE")
  }
  get serverName(): string | undefined {
    // HAProxy's SERVER_NAME is the Host header, port included.
    return this.text("SERVER_NAME")?.replace(portAtEnd, "$1")
  }
  get serverPort(): number | undefined {
    return port(this.text("SERVER_PORT")) ?? port(portAtEnd.exec(this.text("SERVER_NAME") ?? "")?.[2])
  }
  get serverProtocol(): string | undefined {
    return this.text("SERVER_PROTOCOL")
  }
  get serverAddress(): string | undefined {
    return address(this.text("SERVER_ADDR"))
  }
  get gatewayInterface(): string | undefined {
    return this.text("GATEWAY_INTERFACE")
  }
  get documentRoot(): string | undefined {
    return this.text("DOCUMENT_ROOT")
  }
  get scriptName(): string | undefined {
    return this.text("SCRIPT_NAME")
  }
  get scriptFilename(): string | undefined {
    return this.text("SCRIPT_FILENAME")
  }
  get pathInfo(): string | undefined {
    return this.text("PATH_INFO")
  }
  get pathTranslated(): string | undefined {
    return this.text("PATH_TRANSLATED")
  }
  get queryString(): string | undefined {
    return this.text("QUERY_STRING")
  }
  get requestUri(): string | undefined {
    return this.text("REQUEST_URI")
  }
  get requestMethod(): string | undefined {
    return this.text("REQUEST_METHOD")
  }
  get remoteAddress(): string | undefined {
    return address(this.text("REMOTE_ADDR"))
  }
  get remotePort(): number | undefined {
    return port(this.text("REMOTE_PORT"))
  }
  get remoteHost(): string | undefined {
    return this.text("REMOTE_HOST")
  }
  get remoteUser(): string | undefined {
    return this.text("REMOTE_USER")
  }
  get remotePassword(): Redacted.Redacted | undefined {
    const password = this.params.get("REMOTE_PASSWD")
    return password === undefined ? undefined : Redacted.make(password, { label: "REMOTE_PASSWD" })
  }
  get remoteIdent(): string | undefined {
    return this.text("REMOTE_IDENT")
  }
  get authType(): string | undefined {
    return this.text("AUTH_TYPE")
  }
  get scheme(): "http" | "https" {
    return this.schemeOf(this.params)
  }
  get https(): boolean {
    return this.schemeOf(this.params) === "https"
  }
  get ssl(): CgiSsl | undefined {
    const clientVerify = this.text("SSL_CLIENT_VERIFY") ?? this.text("VERIFIED")
    const ssl: CgiSsl = {
      protocol: this.text("SSL_PROTOCOL"),
      cipher: this.text("SSL_CIPHER"),
      cipherBits: bits(this.text("SSL_CIPHER_USEKEYSIZE")),
      serverName: this.text("SSL_TLS_SNI") ?? this.text("SSL_SERVER_NAME"),
      serverSubject: this.text("SSL_SERVER_S_DN"),
      serverIssuer: this.text("SSL_SERVER_I_DN"),
      clientVerify,
      clientVerified: clientVerify === "SUCCESS",
      clientSubject: this.text("SSL_CLIENT_S_DN") ?? this.text("SSL_CLIENT_DN"),
      clientCommonName: this.text("SSL_CLIENT_S_DN_CN"),
      clientEmail: this.text("SSL_CLIENT_SAN_Email_0") ?? this.text("SSL_CLIENT_S_DN_Email") ??
        this.text("SSL_CLIENT_S_DN_emailAddress"),
      clientIssuer: this.text("SSL_CLIENT_I_DN") ?? this.text("SSL_CLIENT_ISSUER_DN"),
      clientSerial: this.text("SSL_CLIENT_M_SERIAL") ?? this.text("SSL_CLIENT_SERIAL"),
      clientNotBefore: date(this.text("SSL_CLIENT_V_START")),
      clientNotAfter: date(this.text("SSL_CLIENT_V_END")),
      clientFingerprint: this.text("SSL_CLIENT_FINGERPRINT"),
      clientCertificate: certificate(this.text("SSL_CLIENT_CERT"))
    }
    for (const value of Object.values(ssl)) if (value !== undefined && value !== false) return ssl
    return undefined
  }

  private text(name: string): string | undefined {
    const value = this.params.get(name)
    return value === "" ? undefined : value
  }
}

// A host with a port; the colons of a bare IPv6 address are none.
const portAtEnd = /^([^:]+|\[.*\]):(\d+)$/

const digits = /^\d{1,5}$/

const port = (text: string | undefined): number | undefined => {
  if (text === undefined || !digits.test(text)) return undefined
  const number = Number(text)
  // HAProxy's health checks come from port 0.
  return number > 0 && number <= 65535 ? number : undefined
}

const address = (text: string | undefined): string | undefined => {
  // nginx's name for a client on a UNIX socket.
  if (text === undefined || text === "unix:") return undefined
  return text.startsWith("[") && text.endsWith("]") ? text.slice(1, -1) : text
}

const bits = (text: string | undefined): number | undefined =>
  text !== undefined && digits.test(text) ? Number(text) : undefined

// OpenSSL's form: "Nov  4 09:05:00 2026 GMT".
const opensslDate = /^[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4} GMT$/

const date = (text: string | undefined): Date | undefined => {
  if (text === undefined || !opensslDate.test(text)) return undefined
  // oxlint-disable-next-line no-restricted-globals -- a date of the certificate, not the time
  const read = new Date(text)
  return Number.isNaN(read.getTime()) ? undefined : read
}

const certificate = (text: string | undefined): string | undefined =>
  text === undefined
    ? undefined
    : text.includes("-----BEGIN ")
    ? text.replaceAll("\n\t", "\n")
    : decode(text)
