/** The modules that `Contacts` loads with the first request. Servers without address books do not pay for their memory. */
export { addressesOf, readJcard, readJcardText, readVcard, storedAsVcard, toStored } from "./Card.ts"
export { jcardSplitter, vcardSplitter } from "./CardSplitter.ts"
export { planMerge } from "./ContactMerge.ts"
