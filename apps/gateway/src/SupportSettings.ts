/**
 * The settings of the contacts of the operator. A part of `GatewayConfig`.
 */
import type { SupportContact, SupportContacts } from "@greenroom/actors/runtime/HomeServerConfig"
import { type Configuration, list, optional, setting } from "@greenroom/gateway/Setting"
import { url } from "./LoginTables.ts"

/** User IDs and email addresses. */
const contacts = list(/^(@[^:\s,]*:[^\s,]+|[^@\s,]+@[^@\s,]+)$/)
const contactsExpects = "a list of user IDs and email addresses, such as @admin:example.org"

export const supportSettings = {
  supportPage: optional({
    name: "support.page",
    description: "The page on which users find help with this server",
    expects: "a URL such as https://example.org/help",
    schema: url
  }),
  supportAdmins: setting({
    name: "support.admins",
    description: "The contacts for questions about this server",
    expects: contactsExpects,
    schema: contacts,
    fallback: [] as ReadonlyArray<string>
  }),
  supportSecurity: setting({
    name: "support.security",
    description: "The contacts for reports that must stay confidential",
    expects: contactsExpects,
    schema: contacts,
    fallback: [] as ReadonlyArray<string>
  })
} as const

const toContact =
  (role: string) =>
  (contact: string): SupportContact =>
    contact.startsWith("@") ? { role, matrix_id: contact } : { role, email_address: contact }

export const toSupport = (config: Configuration<typeof supportSettings>): SupportContacts => ({
  ...(config.supportPage === undefined ? {} : { page: config.supportPage }),
  contacts: [
    ...config.supportAdmins.map(toContact("m.role.admin")),
    ...config.supportSecurity.map(toContact("m.role.security"))
  ]
})
