/**
 * FastCGI/1.0 for Effect: the protocol, the multiplexer and the server API, without a platform.
 *
 * @since 0.1.0
 */
export * as CgiParams from "./cgi/CgiParams.ts"
export * as CgiRequest from "./cgi/CgiRequest.ts"
export * as CgiResponse from "./cgi/CgiResponse.ts"
export * as CgiSchema from "./cgi/CgiSchema.ts"
export * as FastCgiChannel from "./connection/FastCgiChannel.ts"
export * as FastCgiTransport from "./connection/FastCgiTransport.ts"
export * as FastCgiDecoder from "./protocol/FastCgiDecoder.ts"
export * as FastCgiEncoder from "./protocol/FastCgiEncoder.ts"
export * as FastCgiParams from "./protocol/FastCgiParams.ts"
export * as FastCgiRecord from "./protocol/FastCgiRecord.ts"
export * as CgiProgram from "./server/CgiProgram.ts"
export * as FastCgiAccess from "./server/FastCgiAccess.ts"
export * as FastCgiAdmission from "./server/FastCgiAdmission.ts"
export * as FastCgiConnection from "./server/FastCgiConnection.ts"
export * as FastCgiLimits from "./server/FastCgiLimits.ts"
export * as FastCgiListener from "./server/FastCgiListener.ts"
export * as FastCgiMetrics from "./server/FastCgiMetrics.ts"
export * as FastCgiRequest from "./server/FastCgiRequest.ts"
export * as FastCgiRequestError from "./server/FastCgiRequestError.ts"
export * as FastCgiResponse from "./server/FastCgiResponse.ts"
export * as FastCgiServer from "./server/FastCgiServer.ts"
export * as FastCgiServerOptions from "./server/FastCgiServerOptions.ts"
export * as FastCgiStatus from "./server/FastCgiStatus.ts"
export * as FastCgiWorkers from "./server/FastCgiWorkers.ts"
