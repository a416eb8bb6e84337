/**
 * The address book, an extension of Greenroom.
 */
import type { Contact, ContactImport } from "@greenroom/protocol/api/Contacts"
import type { Json } from "@greenroom/protocol/Json"
import { Effect, Stream } from "effect"
import { HttpClientRequest } from "effect/http"
import type { MatrixTransport } from "./MatrixTransport.ts"
import type { ClientError } from "./Retry.ts"

/** The keys that identify the contact of a card: its UID, an email address or a phone number; or its UID alone. */
export type ContactMerge = "addresses" | "uid"

/** A page of contacts. */
export interface ContactPageOptions {
  /** `next_batch` of the page before. */
  readonly from?: string
  readonly limit?: number
  /** Text of a name, address or number. */
  readonly search?: string
}

const path = "/_matrix/client/unstable/org.greenroom/contacts"
const types = { vcard: "text/vcard; charset=utf-8", jcard: "application/vcard+json" }

export const makeMatrixContacts = ({ api, fetch, once, repeatable }: MatrixTransport) => {
  const contacts = api["clientServer.contacts"]
  const pathOf = (contactId: string) => `${path}/${encodeURIComponent(contactId)}`
  const matching = (etag: string | undefined) =>
    etag === undefined
      ? (request: HttpClientRequest.HttpClientRequest) => request
      : HttpClientRequest.setHeader("if-match", etag)
  const getContacts = (query: ContactPageOptions = {}) => repeatable(contacts.list({ query }))
  return {
    /** A page of contacts by name. */
    getContacts,
    /** All contacts by name, which are fetched page by page. */
    allContacts: (options: Omit<ContactPageOptions, "from"> = {}): Stream.Stream<Contact, ClientError> => {
      const pages = (from: string | undefined): Stream.Stream<Contact, ClientError> =>
        Stream.unwrap(
          Effect.map(getContacts({ ...options, ...(from === undefined ? {} : { from }) }), (page) => {
            const these = Stream.fromIterable(page.contacts)
            return page.next_batch === undefined
              ? these
              : Stream.concat(
                  these,
                  Stream.suspend(() => pages(page.next_batch))
                )
          })
        )
      return pages(undefined)
    },
    /** Errors: M_NOT_FOUND. */
    getContact: (contactId: string) => repeatable(contacts.get({ params: { contactId } })),
    /** Adds a jCard, or merges it with a contact that is the same. Errors: M_INVALID_PARAM, M_TOO_LARGE. */
    addContact: (card: Json, merge: ContactMerge = "addresses") =>
      repeatable(contacts.add({ query: { merge }, payload: { card } })),
    /** Replaces the card of a contact. If an ETag is given, the stored card must still have it. Errors: M_NOT_FOUND, M_INVALID_PARAM. */
    replaceContact: (contactId: string, card: Json, etag?: string) =>
      once(
        HttpClientRequest.put(pathOf(contactId)).pipe(
          matching(etag),
          HttpClientRequest.bodyJsonUnsafe({ card }),
          fetch,
          Effect.flatMap(({ json }) => json),
          Effect.map((answer) => answer as Contact)
        )
      ),
    /** Errors: M_NOT_FOUND. */
    removeContact: (contactId: string, etag?: string) =>
      once(Effect.asVoid(fetch(HttpClientRequest.delete(pathOf(contactId)).pipe(matching(etag))))),
    removeAllContacts: repeatable(Effect.asVoid(contacts.removeAll())),
    /** Imports a file, all cards of it or none. Errors: M_INVALID_PARAM and M_NOT_JSON for a malformed file, M_TOO_LARGE. */
    importContacts: (file: string, format: "vcard" | "jcard" = "vcard", merge: ContactMerge = "addresses") =>
      repeatable(
        HttpClientRequest.post(`${path}/import`).pipe(
          HttpClientRequest.setUrlParams({ merge }),
          HttpClientRequest.bodyText(file, types[format]),
          fetch,
          Effect.flatMap(({ json }) => json),
          Effect.map((answer) => answer as ContactImport)
        )
      ),
    /** All contacts as a file. */
    exportContacts: (format: "vcard" | "jcard" = "vcard") =>
      repeatable(Effect.flatMap(fetch(HttpClientRequest.get(`${path}/export?format=${format}`)), ({ text }) => text)),
    /** Finds the Matrix users of contacts at an identity server. Errors: M_FORBIDDEN, M_LIMIT_EXCEEDED. */
    lookUpContacts: (options: { readonly id_server?: string; readonly id_access_token: string }) =>
      repeatable(contacts.lookup({ payload: options }))
  }
}
