"""Files with secrets; see `gateway.secret_files`."""

from gateway.secret_files import make_secret_file as make_secret_file
from gateway.secret_files import read_secret_file as read_secret_file
from gateway.secret_files import replace_secret_file as replace_secret_file
