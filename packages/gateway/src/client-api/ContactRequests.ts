/**
 * The endpoints of the address book of both generations of the client API, as calls of `Contacts`.
 */
import type { IncomingMessage } from "node:http"
import { type CardFormat, type ContactFile, Contacts, type MergeBy } from "@greenroom/actors/contacts/Contacts"
import { CurrentSession } from "@greenroom/protocol/api/Authentication"
import { done } from "@greenroom/protocol/api/Body"
import type { Contact } from "@greenroom/protocol/api/Contacts"
import type { UserId } from "@greenroom/protocol/Identifiers"
import type { Json } from "@greenroom/protocol/Json"
import { InvalidParam } from "@greenroom/protocol/MatrixError"
import { Effect, Option } from "effect"
import { type HttpServerRequest, HttpServerResponse } from "effect/http"

interface Asked {
  readonly request: HttpServerRequest.HttpServerRequest
}
interface Named extends Asked {
  readonly params: { readonly contactId: string }
}
interface Given {
  readonly payload: { readonly card: Json }
}
interface Merging {
  readonly query: { readonly merge?: MergeBy | undefined }
}

interface ListQuery {
  readonly from?: string | undefined
  readonly limit?: number | undefined
  readonly search?: string | undefined
}

type StoredContact = Effect.Success<ReturnType<Contacts["Service"]["get"]>>

const etagOf = ({ version }: StoredContact): string => `"${version}"`

const toContact = (contact: StoredContact): Contact => ({
  contact_id: contact.contactId,
  etag: etagOf(contact),
  uid: contact.uid,
  name: contact.name,
  user_ids: [
    ...new Set(contact.addresses.flatMap(({ matrixId }): ReadonlyArray<UserId> => (matrixId ? [matrixId] : [])))
  ],
  updated_ts: contact.updatedAt,
  card: JSON.parse(contact.card)
})

const answer = (contact: StoredContact) =>
  HttpServerResponse.jsonUnsafe(toContact(contact), {
    headers: { etag: etagOf(contact), "access-control-expose-headers": "ETag" }
  })

const changed = HttpServerResponse.jsonUnsafe(
  { errcode: "M_UNKNOWN", error: "The contact has changed: If-Match names another version" },
  { status: 412 }
)

/** The version that `If-Match` names; undefined for any version. */
const versionOf = ({ headers }: HttpServerRequest.HttpServerRequest): number | undefined => {
  const tag = headers["if-match"]
  if (tag === undefined || tag.trim() === "*") return undefined
  return Number(/^"([0-9]{1,15})"$/.exec(tag.trim())?.[1] ?? -1)
}

const formats: ReadonlyMap<string, CardFormat> = new Map([
  ["text/vcard", "vcard"],
  ["text/x-vcard", "vcard"],
  ["text/directory", "vcard"],
  ["application/vcard+json", "jcard"],
  ["application/json", "jcard"]
])

/** The body of the request as a file. Errors: M_INVALID_PARAM for another character set than UTF-8. */
const fileOf = (
  request: HttpServerRequest.HttpServerRequest,
  mergeBy: MergeBy
): Effect.Effect<ContactFile, InvalidParam> => {
  const body = request.source as IncomingMessage
  const type = body.headers["content-type"] ?? ""
  const charset = /;\s*charset\s*=\s*"?([^";\s]*)/i.exec(type)?.[1]?.toLowerCase() ?? "utf-8"
  if (charset !== "utf-8" && charset !== "utf8") {
    return Effect.fail(new InvalidParam({ error: "Content-Type: expected the character set UTF-8" }))
  }
  const length = body.headers["content-length"]
  return Effect.succeed({
    body,
    length: length === undefined ? undefined : Number(length),
    format: formats.get(type.split(";")[0]!.trim().toLowerCase()),
    mergeBy
  })
}

const contentTypes = { vcard: "text/vcard; charset=utf-8", jcard: "application/vcard+json" }
const fileNames = { vcard: "contacts.vcf", jcard: "contacts.json" }

export const makeContactRequests = Effect.map(Contacts, (contacts) => ({
  list: ({ query }: { readonly query: ListQuery }) =>
    CurrentSession.use((session) =>
      Effect.map(
        contacts.list(session, { from: query.from, limit: query.limit, text: query.search ?? "" }),
        ({ contacts, next, total }) => ({
          contacts: contacts.map(toContact),
          total,
          ...(next === undefined ? {} : { next_batch: next })
        })
      )
    ),
  add: ({ payload, query }: Given & Merging) =>
    CurrentSession.use((session) =>
      Effect.map(contacts.add(session, payload.card, query.merge ?? "addresses"), ({ contact }) => answer(contact))
    ),
  removeAll: () => CurrentSession.use((session) => Effect.as(contacts.removeAll(session), done)),
  importFile: ({ query, request }: Asked & Merging) =>
    CurrentSession.use((session) =>
      Effect.flatMap(fileOf(request, query.merge ?? "addresses"), (file) => contacts.importFile(session, file))
    ),
  exportFile: ({ query: { format = "vcard" } }: { readonly query: { readonly format?: CardFormat | undefined } }) =>
    CurrentSession.use((session) =>
      Effect.map(contacts.exportFile(session, format), (file) =>
        HttpServerResponse.stream(file, {
          contentType: contentTypes[format],
          headers: {
            "content-disposition": `attachment; filename="${fileNames[format]}"`,
            "x-content-type-options": "nosniff",
            "cache-control": "no-store"
          }
        })
      )
    ),
  lookup: ({ payload }: { readonly payload: { readonly id_server?: string; readonly id_access_token: string } }) =>
    CurrentSession.use((session) =>
      Effect.map(
        contacts.lookUp(session, { idServer: payload.id_server, accessToken: payload.id_access_token }),
        ({ found, lookedUp }) => ({ looked_up: lookedUp, found })
      )
    ),
  get: ({ params, request }: Named) =>
    CurrentSession.use((session) =>
      Effect.map(contacts.get(session, params.contactId), (contact) =>
        request.headers["if-none-match"] === etagOf(contact)
          ? HttpServerResponse.empty({ status: 304, headers: { etag: etagOf(contact) } })
          : answer(contact)
      )
    ),
  replace: ({ params, payload, request }: Named & Given) =>
    CurrentSession.use((session) =>
      Effect.map(
        contacts.replace(session, params.contactId, payload.card, versionOf(request)),
        Option.match({ onNone: () => changed, onSome: answer })
      )
    ),
  remove: ({ params, request }: Named) =>
    CurrentSession.use((session) =>
      Effect.map(contacts.remove(session, params.contactId, versionOf(request)), (removed) =>
        removed ? done : changed
      )
    )
}))
