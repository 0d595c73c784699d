// Administration pages need no script yet.
