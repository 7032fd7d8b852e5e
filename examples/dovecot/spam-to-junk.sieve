require ["fileinto", "mailbox", "vnd.dovecot.execute"];

if execute :pipe "spamgate-check" {
    fileinto :create "Junk";
    stop;
}
