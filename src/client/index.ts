/**
 * The web server's side of FastCGI: a client for any FastCGI application, what it decides as an Authorizer, an Effect
 * `HttpClient` over it, and a gateway that puts HTTP in front of it.
 *
 * @since 0.1.0
 */
export * as FastCgiAuthorization from "./FastCgiAuthorization.ts"
export * as FastCgiClient from "./FastCgiClient.ts"
export * as FastCgiClientError from "./FastCgiClientError.ts"
export * as FastCgiClientMetrics from "./FastCgiClientMetrics.ts"
export * as FastCgiGateway from "./FastCgiGateway.ts"
export * as FastCgiHttpClient from "./FastCgiHttpClient.ts"
export * as FastCgiPhp from "./FastCgiPhp.ts"
export * as FastCgiPool from "./FastCgiPool.ts"
