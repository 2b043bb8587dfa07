-- Reference rows. Written by scripts/data from shared/; edit the files named below.

set role stalela_owner;

-- shared/messages/messages.kinds.csv
insert into messages.kinds (kind, priority, ceiling_percent, valid_for_s, description)
values
('platform_alert', '1', '100', '86400', 'Alerts to the platform''s operator may use the whole day''s budget'),
('tenant_alert', '2', '90', '86400', 'Alerts to the owners of a tenant'),
('receipt', '3', '70', '259200', 'Receipts to payers leave the rest of the day''s budget to alerts'),
('refund_receipt', '3', '70', '259200', 'Notes to payers about money that went back to them'),
('document', '3', '70', '259200', 'Fiscal documents to their clients')
on conflict (kind) do update set
    priority = excluded.priority,
    ceiling_percent = excluded.ceiling_percent,
    valid_for_s = excluded.valid_for_s,
    description = excluded.description;

-- shared/messages/messages.countries.csv
insert into messages.countries (country, language, time_zone)
values
('AO', 'en', 'Africa/Luanda'),
('BF', 'fr', 'Africa/Ouagadougou'),
('BI', 'fr', 'Africa/Bujumbura'),
('BJ', 'fr', 'Africa/Porto-Novo'),
('BW', 'en', 'Africa/Gaborone'),
('CD', 'fr', 'Africa/Kinshasa'),
('CF', 'fr', 'Africa/Bangui'),
('CG', 'fr', 'Africa/Brazzaville'),
('CI', 'fr', 'Africa/Abidjan'),
('CM', 'fr', 'Africa/Douala'),
('CV', 'en', 'Atlantic/Cape_Verde'),
('DJ', 'fr', 'Africa/Djibouti'),
('DZ', 'fr', 'Africa/Algiers'),
('EG', 'en', 'Africa/Cairo'),
('ER', 'en', 'Africa/Asmara'),
('ET', 'en', 'Africa/Addis_Ababa'),
('GA', 'fr', 'Africa/Libreville'),
('GH', 'en', 'Africa/Accra'),
('GM', 'en', 'Africa/Banjul'),
('GN', 'fr', 'Africa/Conakry'),
('GQ', 'fr', 'Africa/Malabo'),
('GW', 'en', 'Africa/Bissau'),
('KE', 'en', 'Africa/Nairobi'),
('KM', 'fr', 'Indian/Comoro'),
('LR', 'en', 'Africa/Monrovia'),
('LS', 'en', 'Africa/Maseru'),
('LY', 'en', 'Africa/Tripoli'),
('MA', 'fr', 'Africa/Casablanca'),
('MG', 'fr', 'Indian/Antananarivo'),
('ML', 'fr', 'Africa/Bamako'),
('MR', 'fr', 'Africa/Nouakchott'),
('MU', 'en', 'Indian/Mauritius'),
('MW', 'en', 'Africa/Blantyre'),
('MZ', 'en', 'Africa/Maputo'),
('NA', 'en', 'Africa/Windhoek'),
('NE', 'fr', 'Africa/Niamey'),
('NG', 'en', 'Africa/Lagos'),
('RW', 'en', 'Africa/Kigali'),
('SC', 'en', 'Indian/Mahe'),
('SD', 'en', 'Africa/Khartoum'),
('SL', 'en', 'Africa/Freetown'),
('SN', 'fr', 'Africa/Dakar'),
('SO', 'en', 'Africa/Mogadishu'),
('SS', 'en', 'Africa/Juba'),
('ST', 'en', 'Africa/Sao_Tome'),
('SZ', 'en', 'Africa/Mbabane'),
('TD', 'fr', 'Africa/Ndjamena'),
('TG', 'fr', 'Africa/Lome'),
('TN', 'fr', 'Africa/Tunis'),
('TZ', 'sw', 'Africa/Dar_es_Salaam'),
('UG', 'en', 'Africa/Kampala'),
('ZA', 'en', 'Africa/Johannesburg'),
('ZM', 'en', 'Africa/Lusaka'),
('ZW', 'en', 'Africa/Harare')
on conflict (country) do update set
    language = excluded.language,
    time_zone = excluded.time_zone;

-- shared/authority/messages.alert_kinds.csv
-- shared/fiscal/integrity/messages.alert_kinds.csv
-- shared/fiscal/offline/messages.alert_kinds.csv
-- shared/messages/messages.alert_kinds.csv
insert into messages.alert_kinds (kind, to_owners, title, advice)
values
('authority_accepted_twice', 'false', 'The authority has one document twice', 'Cancel the second one with the authority; both codes are in the details.'),
('authority_check_failed', 'false', 'The daily look after a fiscal device breaks off', 'The log names the error and the device; its documents still go.'),
('authority_code_unknown', 'false', 'An authority answered with a code nobody knows', 'Find its meaning in the authority''s manual and add a row for it; then retry the document.'),
('authority_device_refused', 'true', 'The tax authority refuses the device of an outlet', 'Register the outlet again with the credentials the authority issues; documents wait meanwhile.'),
('authority_mapping_missing', 'true', 'A document has a tax group that its authority does not know', 'Ask the authority under which group it wants it; withdraw the document once it is reported by hand.'),
('authority_original_missing', 'true', 'A credit credits a document its authority never got', 'Report the original by hand and withdraw the credit or have the original sent first.'),
('authority_outcome_unknown', 'true', 'Nobody can say whether the authority has a document', 'Look in the authority''s own list; then retry it with known_absent or withdraw it.'),
('authority_rates_differ', 'false', 'The authority''s rates are not those we have', 'Compare its notice with the manifest and publish a new version; nothing was changed.'),
('authority_rejected', 'true', 'The tax authority rejected a document', 'Read its reason and issue a correcting document.'),
('authority_sync_failed', 'true', 'A document did not reach the tax authority in time', 'See what the status says of the outlet; then retry it or report it by hand.'),
('authority_token_expiring', 'true', 'The credentials of a fiscal device end soon', 'Ask the authority for new ones and register the outlet again.'),
('authority_unavailable', 'true', 'The tax authority cannot be reached', 'Nothing to do: documents wait and go when it answers; sealing goes on.'),
('chain_broken', 'true', 'A chain of sealed documents does not verify', 'Keep the database as it is; the details name the first entry that is not what was sealed and why.'),
('fiscal_conflict', 'true', 'Two documents have the same number', 'Find which device issued both; the first stays and the other is among the conflicts.'),
('local_seal_refused', 'true', 'A terminal sent a seal that is not accepted', 'Revoke its credential unless its clock or its software explains what the details say; then review the missing numbers.'),
('block_gap', 'true', 'Numbers of a terminal have not come back', 'Wait until the terminal has sent all it sealed; void what is missing when its credential has ended.'),
('callback_parked', 'true', 'A callback of a rail was kept but not believed', 'Compare it with the rail''s statement and decide in the reviews; an unmatched one is closed by resolving its alert.'),
('callbacks_not_kept', 'false', 'Callbacks arrive faster than they are kept', 'Find the source address in the details and block it; ask the rail about the transfers meanwhile.'),
('cron_task_failing', 'false', 'A scheduled task fails again and again', 'Read the error in the details; the task keeps its beat and tries again.'),
('delivery_dead', 'false', 'An event could not be delivered and holds its stream', 'Read last_error and mend its cause; then re-drive the delivery or skip it with a reason.'),
('delivery_stalled', 'false', 'An event fails to be delivered', 'Read last_error; the delivery is tried again by the ladder and dies after its last rung.'),
('deposit_unallocated', 'true', 'A payment came in that belongs to no intent', 'Assign it to an intent or send it back.'),
('intent_overpaid', 'true', 'More money came in than was asked for', 'Send the rest back as a refund.'),
('day_not_closed', 'true', 'A business day could not be closed', 'Read the error in the details; it is tried again every five minutes and nothing is lost meanwhile.'),
('ledger_balance_drift', 'false', 'A balance differs from the sum of its entries', 'Stop postings of this account and compare; the entries are right.'),
('ledger_balance_negative', 'true', 'A balance went below zero', 'Look at the journals of this account.'),
('ledger_chain_broken', 'false', 'The hash chain of a ledger does not verify', 'Keep the database as it is and find who changed a journal.'),
('ledger_out_of_balance', 'false', 'Debits and credits differ', 'Stop manual journals and find the event that booked one side.'),
('mail_budget_spent', 'false', 'The day''s mail is used up', 'What is left waits until midnight UTC; a larger plan at the provider is the cure.'),
('mail_parked', 'false', 'The provider takes no mail', 'A quota ends at midnight UTC; a wrong key or an unverified domain needs a person.'),
('mail_refused', 'false', 'The provider refused a mail for good', 'Read the code in the details; this mail is not tried again.'),
('mail_unknown', 'false', 'The provider never answered for a mail', 'Look for it at the provider; send the receipt again if it is not there.'),
('party_flagged', 'false', 'A party is on a sanctions list', 'Review the match and confirm or clear it.'),
('recon_file_rejected', 'true', 'A statement was refused', 'Read line and reason; send the whole file again.'),
('recon_missing_lines', 'true', 'Transfers are missing in a rail''s statement', 'Work through the exceptions of the session.'),
('recon_statement_missing', 'true', 'A statement has not been sent', 'Send the rail''s statement of that day.'),
('reconcile_behind', 'false', 'Silent transfers are not asked about', 'See whether the reconcile function runs and the rail answers.'),
('sanctions_list_stale', 'false', 'A sanctions list is too old', 'Load the newest list; screening goes on with the old one.'),
('slo_burning', 'false', 'A service level is being missed', 'See which figure it is and what changed since it began.'),
('transfer_needs_review', 'true', 'A transfer waits for a person''s decision', 'Look it up in the rail''s statement and resolve its review.'),
('transfers_stuck', 'false', 'Transfers stay open for too long', 'See whether the rail calls back and reconcile asks; ask the rail if both do.'),
('unknown_rail_code', 'false', 'A rail sent a code that nobody knows', 'Find its meaning in the rail''s manual and add a row for it.'),
('webhook_endpoint_disabled', 'true', 'A webhook endpoint was switched off', 'Mend the endpoint and enable it again; missed events can be replayed.'),
('outbox_lagging', 'false', 'A destination of events falls behind', 'See whether its function runs and what its log says; nothing is lost meanwhile.'),
('outbox_not_read', 'false', 'A partition of the outbox cannot leave', 'A destination has not read it; switch that destination off or mend it.'),
('outbox_without_partition', 'false', 'The outbox has no partition for today', 'Run payments.roll_outbox; events go to the default partition meanwhile.'),
('signing_stalled', 'false', 'Fiscal signatures do not come', 'See whether the key service answers; numbers stay sealed and in order.'),
('signing_error', 'false', 'Documents have a number and no signature', 'See what the key service refuses; mend it and queue them again with POST /invoices/requeue.'),
('key_rotation_overdue', 'false', 'A signing key is older than a year', 'Rotate it with POST /invoices/keys/{key_id}/rotate.'),
('recon_clearing_failed', 'true', 'The books could not be cleared against a statement', 'Read the reason; clear the session again once its cause is mended.'),
('screening_behind', 'false', 'Parties wait for their screening', 'See whether the compliance function runs; the delta of a new list is worked on.'),
('invoice_not_issued', 'true', 'A paid payment has no invoice', 'Read the reason, mend it and post the invoice yourself with the payment declared; the payment stands.'),
('invoice_verification_spike', 'true', 'One invoice is verified again and again', 'Ask whether its paper was copied: every copy verifies. Nothing is wrong with the invoice itself.'),
('archive_unprotected', 'false', 'The archive''s bucket keeps nothing for long', 'Lock a retention policy on the bucket for as many days as the details say; nothing is archived before.'),
('archive_damaged', 'false', 'An archived object is not what was sent', 'The next run writes the same bytes under the next name and leaves this object as it is. Find out why the storage spoils what it is given.'),
('archive_overdue', 'false', 'Days are not archived', 'See what the function archive says in its log and whether the object storage answers.')
on conflict (kind) do update set
    to_owners = excluded.to_owners,
    title = excluded.title,
    advice = excluded.advice;

-- shared/messages/messages.slos.csv
insert into messages.slos (slo, objective_bps, target_s, routine, description)
values
('callbacks_concluded', '9950', '5', 'messages.callback_figures', 'Callbacks that a rail sent are concluded within 5 s'),
('deliveries_on_time', '9900', '10', 'messages.delivery_figures', 'Events reach every destination within 10 s'),
('transfers_concluded', '9900', '600', 'messages.transfer_figures', 'Transfers end within 10 minutes of their submission')
on conflict (slo) do update set
    objective_bps = excluded.objective_bps,
    target_s = excluded.target_s,
    routine = excluded.routine,
    description = excluded.description;

reset role;
