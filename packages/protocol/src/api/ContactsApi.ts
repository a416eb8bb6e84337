/**
 * The address book in the client API of 2014.
 *
 * Source: "Address book repository" of the draft, which names no endpoints.
 */
import { HttpApiGroup, OpenApi } from "effect/http-api"
import { Authentication } from "./Authentication.ts"
import { contactEndpoints } from "./Contacts.ts"

export class ContactsApi extends HttpApiGroup.make("contacts")
  .add(...contactEndpoints("/contacts"))
  .middleware(Authentication)
  .annotateMerge(OpenApi.annotations({ title: "Address book", description: "Contacts as vCard and jCard." })) {}
