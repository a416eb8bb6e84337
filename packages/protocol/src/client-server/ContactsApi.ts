/**
 * The address book in today's client API: an extension of Greenroom, which `/versions` announces as `org.greenroom.contacts`.
 */
import { HttpApiGroup, OpenApi } from "effect/http-api"
import { Authentication } from "../api/Authentication.ts"
import { contactEndpoints } from "../api/Contacts.ts"

export class ContactsApi extends HttpApiGroup.make("clientServer.contacts")
  .add(...contactEndpoints("/unstable/org.greenroom/contacts"))
  .middleware(Authentication)
  .annotateMerge(OpenApi.annotations({ title: "Address book" })) {}
