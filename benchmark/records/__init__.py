"""What ran: records, and all of them as one body of evidence."""
