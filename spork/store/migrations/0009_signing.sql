-- Certificates that one process asks for and another one signs.

-- Why a signer refused: code, detail and names to blame. Only on abandoned rows; NULL where a lease ran out.
ALTER TABLE certificate ADD COLUMN refusal jsonb;
