/**
 * The endpoints of the address book, which both generations of the client API have (an extension of Greenroom): contacts as
 * jCard (RFC 7095) in JSON bodies, and as files of `text/vcard` (RFC 6350) or `application/vcard+json`.
 *
 * Source: "Address book repository" of the draft, which names no endpoints.
 */
import { Schema } from "effect"
import { HttpApiEndpoint } from "effect/http-api"
import { UserId } from "../Identifiers.ts"
import { Transfer } from "./Authentication.ts"
import { AnyValue, Bytes, body, Done } from "./Body.ts"
import { documented } from "./Documentation.ts"
import { boundedText } from "./Parameters.ts"

const exampleCard = [
  "vcard",
  [
    ["version", {}, "text", "4.0"],
    ["uid", {}, "text", "urn:uuid:4fbe8971-0bc3-424c-9c26-36c3e1eff6b1"],
    ["fn", {}, "text", "Alice"],
    ["email", {}, "text", "alice@example.org"]
  ]
]

const Jcard = AnyValue.annotate({ description: "A jCard (RFC 7095)", examples: [exampleCard as never] })

const StoredContact = Schema.Struct({
  contact_id: Schema.String.annotate({ examples: ["aXbrN0lGAmEVJkRG"] }),
  etag: Schema.String.annotate({ description: "For `If-Match`; also in the header `ETag`", examples: ['"1"'] }),
  uid: Schema.String,
  name: Schema.String,
  user_ids: Schema.Array(UserId).annotate({ description: "The Matrix users that the contact is known to be" }),
  updated_ts: Schema.Int,
  card: Jcard
}).annotate({ identifier: "Contact" })

/** A contact as clients receive it. */
export const Contact = body(StoredContact)
export type Contact = typeof Contact.Type

/** A page of contacts. */
export const ContactList = body(
  Schema.Struct({
    contacts: Schema.Array(StoredContact),
    total: Schema.Int.annotate({ description: "How many contacts the user has" }),
    next_batch: Schema.optionalKey(Schema.String.annotate({ description: "`from` of the next page" }))
  }).annotate({ identifier: "ContactList" })
)
export type ContactList = typeof ContactList.Type

/** The result of an import. */
export const ContactImport = body(
  Schema.Struct({
    created: Schema.Int.annotate({ description: "Contacts that were added" }),
    merged: Schema.Int.annotate({ description: "Cards that changed a contact" }),
    unchanged: Schema.Int.annotate({ description: "Cards that changed nothing" }),
    total: Schema.Int.annotate({ description: "How many contacts the user has now" })
  }).annotate({ identifier: "ContactImport" })
)
export type ContactImport = typeof ContactImport.Type

/** The result of a lookup of addresses. */
export const ContactLookup = body(
  Schema.Struct({
    looked_up: Schema.Int.annotate({ description: "Addresses that were looked up" }),
    found: Schema.Int.annotate({ description: "Those with a Matrix user" })
  }).annotate({ identifier: "ContactLookup" })
)
export type ContactLookup = typeof ContactLookup.Type

const merge = Schema.optional(
  Schema.Literals(["addresses", "uid"]).annotate({
    description:
      "The keys that identify the contact of a card: its UID, an email address or a phone number (`addresses`, the default), or its UID alone"
  })
)
const GivenCard = Schema.Struct({ card: Jcard }).annotate({ identifier: "GivenContact" })
const params = { contactId: boundedText(64) }
const cardErrors = "Errors: M_INVALID_PARAM for a malformed card, M_TOO_LARGE, M_USER_LIMIT_EXCEEDED."
const conditional = "With `If-Match` only where the contact has that ETag, else 412 M_UNKNOWN."
const who = "the user"

/** The endpoints, below a path. */
export const contactEndpoints = <const Path extends `/${string}`>(path: Path) =>
  [
    HttpApiEndpoint.get("list", path, {
      query: {
        from: Schema.optional(boundedText(4_096)),
        limit: Schema.optional(
          Schema.NumberFromString.check(
            Schema.isInt({ expected: "an integer" }),
            Schema.isBetween({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER })
          ).annotate({ description: "Contacts of one page (default 100, at most 500; fewer if they are large)" })
        ),
        search: Schema.optional(boundedText(255))
      },
      success: ContactList
    }).annotateMerge(
      documented({ summary: "Contacts by name", text: "An extension of Greenroom. Errors: M_INVALID_PARAM.", who })
    ),
    HttpApiEndpoint.post("add", path, { query: { merge }, payload: GivenCard, success: Contact }).annotateMerge(
      documented({
        summary: "Add a contact",
        text: `Merged with contacts that are the same, so that a repeat adds nothing. An extension of Greenroom. ${cardErrors}`,
        who,
        request: { card: exampleCard }
      })
    ),
    HttpApiEndpoint.delete("removeAll", path, { success: Done }).annotateMerge(
      documented({ summary: "Remove all contacts", text: "An extension of Greenroom.", who })
    ),
    HttpApiEndpoint.post("import", `${path}/import`, { query: { merge }, success: ContactImport })
      .annotate(Transfer, true)
      .annotateMerge(
        documented({
          summary: "Import contacts",
          text:
            "The body is `text/vcard` (4.0 or 3.0) or `application/vcard+json` (a jCard or an array of them), at most 48 MiB, " +
            `512 KiB a card. All cards are imported or none. An extension of Greenroom. ${cardErrors} M_NOT_JSON, ` +
            "M_LIMIT_EXCEEDED while many imports run.",
          who,
          binary: true
        })
      ),
    HttpApiEndpoint.get("export", `${path}/export`, {
      query: { format: Schema.optional(Schema.Literals(["vcard", "jcard"])) },
      success: Bytes
    })
      .annotate(Transfer, true)
      .annotateMerge(
        documented({
          summary: "Export contacts",
          text: "All contacts by name, as `text/vcard` or as an array of jCards. An extension of Greenroom.",
          who
        })
      ),
    HttpApiEndpoint.post("lookup", `${path}/lookup`, {
      payload: Schema.Struct({
        id_server: Schema.optionalKey(boundedText(255)),
        id_access_token: Schema.String.check(
          Schema.isPattern(/^[!-~]{1,1024}$/, { expected: "an access token" })
        ).annotate({ description: "Of the user at the identity server", examples: ["a-token"] })
      }).annotate({ identifier: "ContactLookupRequest" }),
      success: ContactLookup
    }).annotateMerge(
      documented({
        summary: "Find contacts that are Matrix users",
        text:
          "Asks an identity server that this home server trusts by hashes of email addresses and phone numbers, at most once a " +
          "day for each. Results from before a refusal are kept. An extension of Greenroom. Errors: M_FORBIDDEN, " +
          "M_LIMIT_EXCEEDED, M_UNKNOWN if it cannot be reached.",
        who
      })
    ),
    HttpApiEndpoint.get("get", `${path}/:contactId`, { params, success: Contact }).annotateMerge(
      documented({ summary: "A contact", text: "An extension of Greenroom. Errors: M_NOT_FOUND.", who })
    ),
    HttpApiEndpoint.put("replace", `${path}/:contactId`, {
      params,
      payload: GivenCard,
      success: Contact
    }).annotateMerge(
      documented({
        summary: "Replace the card of a contact",
        text: `It keeps its UID. ${conditional} An extension of Greenroom. ${cardErrors} M_NOT_FOUND.`,
        who,
        request: { card: exampleCard }
      })
    ),
    HttpApiEndpoint.delete("remove", `${path}/:contactId`, { params, success: Done }).annotateMerge(
      documented({
        summary: "Remove a contact",
        text: `${conditional} An extension of Greenroom. Errors: M_NOT_FOUND.`,
        who
      })
    )
  ] as const
