#!/bin/sh
# A simulated network device: what an account of the test's sshd is shown after its login. It knows the few commands by
# which a password is changed, and says no to a short one. $1 is the dialect, $2 a folder: what is committed is written there
# and taken from there by the test, which really changes the password.
dialect=$1 folder=$2 user=$(id -un) new=

commit() {
  printf '%s:%s\n' "$user" "$new" > "$folder/commit.new" && mv "$folder/commit.new" "$folder/commit"
  while [ -e "$folder/commit" ]; do sleep 0.05; done
}
ask() {   # a line without echo
  stty -echo; printf '%s' "$1"; IFS= read -r line; stty echo; printf '\r\n'
}

case $dialect in
  cisco-ios)
    mode=
    printf '\r\n'
    while printf 'legacy-sw1%s#' "$mode" && IFS= read -r line; do
      case $line in
        "terminal length 0") ;;
        "configure terminal") mode='(config)'; printf 'Enter configuration commands, one per line.  End with CNTL/Z.\r\n' ;;
        "username $user secret "*)
          new=${line#"username $user secret "}
          [ ${#new} -ge 8 ] || { printf '%% Password length is less than 8 characters\r\n'; new=; } ;;
        end) mode= ;;
        "write memory") printf 'Building configuration...\r\n'; commit; printf '[OK]\r\n' ;;
        exit) exit 0 ;;
        "") ;;
        *) printf "%% Invalid input detected at '^' marker.\r\n" ;;
      esac
    done ;;
  junos)
    prompt='> '
    printf '%s@legacy-rt1' "$user"
    while printf '%s' "$prompt" && IFS= read -r line; do
      case $line in
        "set cli screen-length 0") printf 'Screen length set to 0\r\n' ;;
        "configure exclusive") printf 'Entering configuration mode\r\n\r\n[edit]\r\n%s@legacy-rt1' "$user"; prompt='# '; continue ;;
        "set system login user $user authentication plain-text-password")
          ask 'New password:'; first=$line
          if [ ${#first} -lt 6 ]; then printf 'error: minimum password length is 6\r\n'
          else ask 'Retype new password:'; [ "$line" = "$first" ] && new=$line; fi ;;
        "commit and-quit") commit; printf 'commit complete\r\nExiting configuration mode\r\n\r\n%s@legacy-rt1' "$user"; prompt='> '; continue ;;
        exit) exit 0 ;;
        "") ;;
        *) printf 'unknown command.\r\n' ;;
      esac
      printf '%s@legacy-rt1' "$user"
    done ;;
  hp-procurve)
    mode=
    printf '\033[2J\033[1;24r\033[24;1HHP J9773A Switch\r\nPress any key to continue'
    IFS= read -r line
    while printf '\033[24;1H\033[2Klegacy-sw2%s# \033[?25h' "$mode" && IFS= read -r line; do
      case $line in
        "no page") ;;
        configure) mode='(config)' ;;
        "password manager user-name $user")
          ask 'New password for manager: '; first=$line
          if [ ${#first} -lt 8 ]; then printf 'Password is too short.\r\n'
          else ask 'Please retype new password for manager: '; [ "$line" = "$first" ] && new=$line; fi ;;
        "write memory") commit ;;
        end) mode= ;;
        "") ;;
        *) printf 'Invalid input: %s\r\n' "${line%% *}" ;;
      esac
    done ;;
esac
