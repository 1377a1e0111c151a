/**
 * Where `NodeFastCgiListener` listens, and what stands in front of FastCGI there: the options of each kind of socket.
 */
import type * as Duration from "effect/Duration"
import type * as Stream from "effect/Stream"

/**
 * A certificate and its key.
 *
 * @category options
 * @since 0.1.0
 */
export interface TlsCertificates {
  /** The certificate, followed by the certificates between it and its authority, in PEM. */
  readonly cert: string | Uint8Array
  /** The key of the certificate in PEM, without a passphrase. */
  readonly key: string | Uint8Array
  /**
   * Authorities, in PEM. With them, every peer must present a certificate that one of them has signed: mutual TLS. Without them,
   * peers present no certificate, and only `allow` decides who may connect.
   */
  readonly ca?: string | Uint8Array | undefined
}

/**
 * TLS on a listener (RFC 8446), for a web server on another host. HAProxy (`server … ssl`) and `NodeFastCgiConnector` can use it. No
 * other web server speaks FastCGI over TLS.
 *
 * @category options
 * @since 0.1.0
 */
export interface TlsOptions extends TlsCertificates {
  /**
   * Certificates that replace the ones before while the listener runs. New connections get them; open connections keep theirs. A
   * certificate that cannot be used is logged, and the one before stays. A renewal adds no authorities where there were none, and
   * leaves none out. With `layerConfig`, the files are read again at SIGHUP. Default none.
   */
  readonly renewals?: Stream.Stream<TlsCertificates> | undefined
}

/**
 * The layers in front of FastCGI on each connection, in this order.
 *
 * @category options
 * @since 0.1.0
 */
export interface FrontOptions {
  /**
   * The peers that begin a connection with a header of the PROXY protocol, version 1 or 2, as HAProxy does with `send-proxy` and
   * `send-proxy-v2`: addresses and networks, or `true` for every peer that may connect. Over TCP, `true` needs an `allow` list.
   * `peer` is then the address in the header. A listed peer that sends no header is refused. A header from another peer is forged,
   * and refused as well. Default nobody.
   */
  readonly proxyProtocol?: true | ReadonlyArray<string> | undefined
  /** The certificate of this end, and the authorities of the peers' certificates. Default no TLS. */
  readonly tls?: TlsOptions | undefined
  /** How long the header and the TLS handshake may take together: see `FastCgiLimits.listener`. Default 10 seconds. */
  readonly handshakeTimeout?: Duration.Input | undefined
}

/**
 * A listening socket that the process was started with.
 *
 * @category options
 * @since 0.1.0
 */
export interface FdOptions extends FrontOptions {
  /** The file descriptor. Default 0, where a web server puts the socket (SPEC 2.2). */
  readonly fd?: number | undefined
  /**
   * Whether a process that was started as a plain CGI program serves its one request, when the descriptor is no listening socket:
   * see `layerCgi`. For descriptor 0 only. Default true.
   */
  readonly cgi?: boolean | undefined
  /** Replaces the backlog that the socket was created with. Default 511. */
  readonly backlog?: number | undefined
  /**
   * Who may connect over TCP: addresses and networks such as `"192.0.2.10"`, `"10.1.0.0/16"` and `"2001:db8::/32"`, see
   * `FastCgiAccess.fromEntries`. Other peers are closed right after the accept, before a byte is read. On a UNIX socket, the file
   * mode decides. Where FCGI_WEB_SERVER_ADDRS is set, a peer must be on both lists. Default everybody.
   */
  readonly allow?: ReadonlyArray<string> | undefined
  // Options of other kinds of listeners.
  readonly path?: undefined
  readonly port?: undefined
  readonly systemd?: undefined
}

/**
 * The owner of a UNIX socket.
 *
 * **Details**
 *
 * Names are looked up as getpwnam(3) and getgrnam(3) do: in `/etc/passwd` and `/etc/group`, and then by the program `getent`, which
 * asks LDAP and the like. A text of digits that is no name is an id. A name that does not exist is an error, and nothing listens.
 *
 * @category options
 * @since 0.1.0
 */
export interface SocketOwner {
  /** A user's name or id. */
  readonly user?: string | number | undefined
  /** A group's name or id. */
  readonly group?: string | number | undefined
}

/**
 * A UNIX socket to create.
 *
 * @category options
 * @since 0.1.0
 */
export interface UnixOptions extends FrontOptions {
  /**
   * The path, of at most 107 bytes (103 on macOS and the BSDs). On Linux a path that begins with "\0" is a name in the abstract
   * namespace, for which mode, owner and unlink mean nothing.
   */
  readonly path: string
  /** The file mode; a program that connects needs permission to write. Default the rest of 0o777 after the umask. */
  readonly mode?: number | undefined
  /**
   * The owner of the socket, by name or id. Giving the socket to another user takes root. Giving it to a group takes membership of
   * that group. A user or group that is left out stays this process's.
   */
  readonly owner?: SocketOwner | undefined
  /** Default 511. */
  readonly backlog?: number | undefined
  /** Whether the listener removes the socket when it closes. It never removes a successor's socket. Default true. */
  readonly unlink?: boolean | undefined
  // Options of other kinds of listeners.
  readonly fd?: undefined
  readonly port?: undefined
  readonly systemd?: undefined
}

/**
 * A TCP port to listen on.
 *
 * @category options
 * @since 0.1.0
 */
export interface TcpOptions extends FrontOptions {
  /**
   * An address of this host, or a name for one. Default "127.0.0.1". A program that can connect can set every variable that the
   * application trusts, so let only the web server connect.
   */
  readonly host?: string | undefined
  /** The port; 0 takes a free one, and the listener's `address` has its number. */
  readonly port: number
  /** Default 511. */
  readonly backlog?: number | undefined
  /** Whether the host "::" leaves IPv4 alone. Default false. */
  readonly ipv6Only?: boolean | undefined
  /**
   * Who may connect over TCP: addresses and networks such as `"192.0.2.10"`, `"10.1.0.0/16"` and `"2001:db8::/32"`, see
   * `FastCgiAccess.fromEntries`. Other peers are closed right after the accept, before a byte is read. Where FCGI_WEB_SERVER_ADDRS
   * is set, a peer must be on both lists. Default everybody.
   */
  readonly allow?: ReadonlyArray<string> | undefined
  // Options of other kinds of listeners.
  readonly fd?: undefined
  readonly path?: undefined
  readonly mode?: undefined
  readonly systemd?: undefined
}

/**
 * The sockets that systemd has passed: socket activation.
 *
 * @category options
 * @since 0.1.0
 */
export interface SystemdOptions extends FrontOptions {
  /**
   * Which of the sockets: all (`true`), or those with this name, the `FileDescriptorName=` of the socket unit. Several sockets become
   * one listener.
   */
  readonly systemd: true | string
  /** Replaces `Backlog=` of the socket unit. Default 511. */
  readonly backlog?: number | undefined
  /** Who may connect over TCP: see `FdOptions`. Default everybody. */
  readonly allow?: ReadonlyArray<string> | undefined
  // Options of other kinds of listeners.
  readonly fd?: undefined
  readonly path?: undefined
  readonly port?: undefined
}

/**
 * Where to listen: `{ fd }`, `{ path }`, `{ port }` or `{ systemd }`. `{}` is file descriptor 0.
 *
 * @category options
 * @since 0.1.0
 */
export type NodeFastCgiListenerOptions = FdOptions | UnixOptions | TcpOptions | SystemdOptions
