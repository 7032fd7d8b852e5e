require ["vnd.dovecot.pipe", "copy", "imapsieve", "environment", "variables"];

# Spam that is deleted stays spam. Add what your users call their trash.
if environment :matches "imap.mailbox" ["*Trash*", "*Deleted*"] {
    stop;
}
if environment :matches "imap.user" "*" {
    set "user" "${1}";
}
pipe :copy "spamgate-learn" ["ham", "${user}"];
