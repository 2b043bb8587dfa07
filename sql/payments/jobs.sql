-- The first partitions of the outbox; a cron task makes the next ones.

select payments.add_outbox_partitions();
