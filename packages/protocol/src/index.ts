/**
 * The formats that travel: identifiers, events, errors, and the definitions of the APIs. Each module is also a subpath of its own, as in
 * `@greenroom/protocol/Identifiers`, which loads less.
 */

export * as Answers from "./api/Answers.ts"
export { ClientApi } from "./api/ClientApi.ts"
export * as LoginFlow from "./api/LoginFlow.ts"
export * as AppServiceRegistration from "./app-service/AppServiceRegistration.ts"
export { ClientServerApi } from "./client-server/ClientServerApi.ts"
export * as Filter from "./client-server/Filter.ts"
export * as Relation from "./client-server/Relation.ts"
export * as Event from "./Event.ts"
export * as EventContent from "./EventContent.ts"
export * as Edu from "./federation/Edu.ts"
export { FederationApi } from "./federation/FederationApi.ts"
export * as KeyApi from "./federation/KeyApi.ts"
export * as Transaction from "./federation/Transaction.ts"
export * as Identifiers from "./Identifiers.ts"
export { IdentityApi } from "./identity/IdentityApi.ts"
export * as Json from "./Json.ts"
export * as JsonParse from "./JsonParse.ts"
export * as MatrixError from "./MatrixError.ts"
export * as MessageContent from "./MessageContent.ts"
export * as MessagePack from "./MessagePack.ts"
export * as SocketFrame from "./SocketFrame.ts"
export * as SocketMethod from "./SocketMethod.ts"
export { ServerServerApi } from "./server-server/ServerServerApi.ts"
